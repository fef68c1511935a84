// src/engine/device_stages.h
// SPDX-License-Identifier: Apache-2.0
//
// What a GPU does of a recogniser beside its graphs, so that audio goes in and n-best lists come out: features from
// samples, and the CTC searches on what the graphs left in its memory. One object a stream, one step at a time.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "decoders/ctc_greedy.h"
#include "decoders/ctc_prefix_beam.h"
#include "frontend/fbank.h"
#include "runtime/device.h"
#include "runtime/executor.h"
#include "ting/status.h"

namespace ting {

// Rows of op log_softmax_topk on the device.
struct TopKRows {
  StepOutput logp, ids;  // [rows, k] each
};

class DeviceStages {
 public:
  virtual ~DeviceStages() = default;
  // Features of utterance b in rows [rows.begin(b), …), in the device's memory until the next call, with room for
  // padded rows. Samples may be freed on return.
  virtual Result<const float*> Features(std::span<const std::span<const float>> utterances, const RowSet& rows,
                                        ThreadPool& pool, Stream& stream) = 0;

  // Gives back the memory of the features. Nothing may be running.
  virtual void ReleaseMemory() = 0;

  // The searches, queued; `max_beam` is the widest that the device does.
  virtual int max_beam() const = 0;
  virtual Status QueueGreedy(const TopKRows& rows, int32_t blank_id, Stream& stream) = 0;
  virtual Status QueuePrefixBeam(const TopKRows& rows, const PrefixBeamOptions& options, Stream& stream) = 0;
  // Of the search that was queued last; they wait for it, and not for what was queued behind it.
  virtual Result<std::vector<GreedyResult>> GreedyResults(int num_sequences) = 0;
  virtual Result<std::vector<std::vector<PrefixHypothesis>>> PrefixResults(int num_sequences) = 0;
};

// What these ask of a device at the least: samples as int16 in, features in f32 out, about 20,000 operations a frame
// (an FFT of 512 points is 11,500 of them); and every row's best symbols read once.
inline KernelWork FeaturesWork(int64_t samples, int64_t frames, int num_mel_bins) {
  const double values = static_cast<double>(frames) * num_mel_bins;
  return {"features", 2e4 * static_cast<double>(frames), 2.0 * static_cast<double>(samples) + 4 * values, false};
}
inline KernelWork SearchWork(int64_t rows, int k) { return {"search", 0, 8.0 * static_cast<double>(rows) * k, false}; }

// Null for a device that has none (the CPU: frontend/ and decoders/ do the work).
Result<std::unique_ptr<DeviceStages>> CreateDeviceStages(Device& device, const FbankOptions& options);

}  // namespace ting
