// src/frontend/feature_buffer.h
// SPDX-License-Identifier: Apache-2.0
//
// Features of a sound that arrives in pieces: bit for bit the frames that Fbank gives for the whole, whatever
// the pieces. Keeps only the samples that a later frame still needs, so that memory does not grow with the
// stream. One stream, one caller at a time.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "frontend/fbank.h"

namespace ting {

class FeatureBuffer {
 public:
  explicit FeatureBuffer(Fbank fbank) : fbank_(std::move(fbank)) {}

  const Fbank& fbank() const { return fbank_; }

  // Samples in int16 range that follow those accepted before.
  void Accept(std::span<const float> samples);

  // Frames that are whole and not yet read.
  int64_t NumReady() const { return fbank_.NumFrames(num_buffered_samples()); }

  // Writes the next min(max_frames, NumReady()) frames to out [frames, num_mel_bins], forgets them, and returns
  // how many they were.
  int64_t Read(int64_t max_frames, float* out);

  int64_t num_frames_read() const { return num_frames_read_; }
  int64_t num_buffered_samples() const { return static_cast<int64_t>(samples_.size()); }

  // Forgets everything: the next sample starts a new sound.
  void Reset();

 private:
  Fbank fbank_;
  std::vector<float> samples_;   // from the first sample of the next frame on
  int64_t samples_to_skip_ = 0;  // of those still to come; only where the shift is longer than the frame
  int64_t num_frames_read_ = 0;
};

}  // namespace ting
