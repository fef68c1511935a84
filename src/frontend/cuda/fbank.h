// src/frontend/cuda/fbank.h
// SPDX-License-Identifier: Apache-2.0
//
// CudaFbank: the filter bank of frontend/fbank.h for all utterances of a step, one kernel from samples in device
// memory. Inputs      packed samples in int16 range, as int16 or f32; sequence b has samples [sample_offsets[b],
//             sample_offsets[b + 1]) and rows [frame_offsets[b], frame_offsets[b + 1]) of the features, no more than
//             Fbank::NumFrames of its samples. B and max_frames may be bounds: sequences beyond the real ones have no
//             frames, their offsets repeat.
// Numerics    f64 up to the power spectrum: within 1e-5 of Fbank, quiet bins of loud frames included
// Same bits   a frame is a function of its own samples: not of its batch, its place in it, or where its samples lie.
//             int16 and f32 of the same values give the same bits.
// Execution   asynchronous on stream, no allocation, no synchronisation, may be captured; any number of calls at once
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "frontend/fbank.h"
#include "ting/status.h"

namespace ting {

class CudaFbank {
 public:
  // Refuses what Fbank refuses, and frames of more than 2048 samples. The tables go to the current device.
  static Result<CudaFbank> Create(const FbankOptions& options);
  ~CudaFbank();
  CudaFbank(CudaFbank&&) noexcept;
  CudaFbank& operator=(CudaFbank&&) noexcept;

  // All pointers are device memory; offsets [B + 1]; features [max_frames, num_mel_bins], rows from frame_offsets[B] on
  // are not written.
  Status Compute(const int16_t* samples, const int64_t* sample_offsets, const int32_t* frame_offsets, int num_sequences,
                 int max_frames, float* features, cudaStream_t stream) const;
  Status Compute(const float* samples, const int64_t* sample_offsets, const int32_t* frame_offsets, int num_sequences,
                 int max_frames, float* features, cudaStream_t stream) const;

 private:
  struct Memory;
  explicit CudaFbank(std::unique_ptr<Memory> memory);

  std::unique_ptr<Memory> memory_;
};

}  // namespace ting
