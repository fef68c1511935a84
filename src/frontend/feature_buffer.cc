// src/frontend/feature_buffer.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/feature_buffer.h"

#include <algorithm>

namespace ting {

void FeatureBuffer::Accept(std::span<const float> samples) {
  const int64_t skipped = std::min(samples_to_skip_, static_cast<int64_t>(samples.size()));
  samples_to_skip_ -= skipped;
  samples_.insert(samples_.end(), samples.begin() + skipped, samples.end());
}

int64_t FeatureBuffer::Read(int64_t max_frames, float* out) {
  const int64_t num_frames = std::min(max_frames, NumReady());
  if (num_frames <= 0) return 0;
  fbank_.Compute(samples_, 0, num_frames, out);
  const int64_t consumed = num_frames * fbank_.frame_shift_samples();
  const int64_t erased = std::min(consumed, num_buffered_samples());
  samples_.erase(samples_.begin(), samples_.begin() + erased);
  samples_to_skip_ = consumed - erased;
  num_frames_read_ += num_frames;
  return num_frames;
}

void FeatureBuffer::Reset() {
  samples_.clear();
  samples_to_skip_ = 0;
  num_frames_read_ = 0;
}

}  // namespace ting
