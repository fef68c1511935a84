// src/frontend/fbank.h
// SPDX-License-Identifier: Apache-2.0
//
// Kaldi's log-mel filter bank, as WeNet trains on it: samples in, [frames, num_mel_bins] out.
//   frame -> subtract its mean -> pre-emphasis 0.97 (the first sample uses itself) -> povey window
//   -> power spectrum of the next power of two -> triangles linear in mel (20 Hz to Nyquist) -> natural log,
//   floored at FLT_EPSILON.  No dither, no energy term, whole frames only (snip_edges).
// A frame depends on its own samples alone: the same samples give the same bits, whatever block, call or
// thread computes them, which is what makes streaming equal to offline.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "ting/status.h"

namespace ting {

struct FbankOptions {
  int sample_rate_hz = 16000;
  int num_mel_bins = 80;
  float frame_length_ms = 25.0F;
  float frame_shift_ms = 10.0F;
};

struct FbankPlan;  // tables, made once

class Fbank {
 public:
  // Refuses options outside 1-768 kHz, 1-1024 bins, frames of 17 to 65,536 samples and at most 1 s, and more
  // mel bins than the spectrum can fill.
  static Result<Fbank> Create(const FbankOptions& options);
  // For tests: the widest code that this CPU runs and that takes at most so many frames at once (2: any CPU,
  // 4: AVX2, 8: AVX-512).
  static Result<Fbank> CreateWithLanes(const FbankOptions& options, int max_lanes);

  const FbankOptions& options() const { return options_; }
  int num_mel_bins() const { return options_.num_mel_bins; }
  int frame_length_samples() const;
  int frame_shift_samples() const;
  int lanes() const;

  // 1 + (n - length) / shift, or 0 where not even one frame is whole.
  int64_t NumFrames(int64_t num_samples) const;

  // Frames [first_frame, first_frame + num_frames) of `samples` into out [num_frames, num_mel_bins]. The range
  // must lie within NumFrames(samples.size()). Samples are in int16 range; values that are not finite, or above
  // 1e15, give finite but meaningless features: callers check. Any number of threads may call at once.
  void Compute(std::span<const float> samples, int64_t first_frame, int64_t num_frames, float* out) const;

 private:
  Fbank(const FbankOptions& options, std::shared_ptr<const FbankPlan> plan)
      : options_(options), plan_(std::move(plan)) {}

  FbankOptions options_;
  std::shared_ptr<const FbankPlan> plan_;
};

}  // namespace ting
