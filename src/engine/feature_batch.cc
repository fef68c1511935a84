// src/engine/feature_batch.cc
// SPDX-License-Identifier: Apache-2.0
#include "engine/feature_batch.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/status_macros.h"

namespace ting {
namespace {

// Frames that one task computes: long enough to hide the hand-out, short enough that one utterance keeps all
// threads busy.
constexpr int64_t kTaskFrames = 64;

// By the largest exponent: integer maxima, which compilers vectorise; a test of each sample would cost as much as
// copying them all.
bool AllFinite(std::span<const float> samples) {
  constexpr uint32_t kInfinity = 0x7F800000;
  uint32_t largest = 0;
  for (const float sample : samples) largest = std::max(largest, std::bit_cast<uint32_t>(sample) & 0x7FFFFFFF);
  return largest < kInfinity;
}

Status CheckAudio(const Audio& audio, const Fbank& fbank, int min_frames) {
  const FbankOptions& options = fbank.options();
  if (audio.sample_rate_hz != options.sample_rate_hz) {
    return InvalidArgument("the audio has {} Hz, the model {}; resample it (ReadAudio does)", audio.sample_rate_hz,
                           options.sample_rate_hz);
  }
  if (!AllFinite(audio.samples)) {
    return InvalidArgument("the audio holds samples that are not finite (NaN or infinity)");
  }
  const int64_t frames = fbank.NumFrames(static_cast<int64_t>(audio.samples.size()));
  if (frames < min_frames) {
    const double needed_ms = options.frame_length_ms + (min_frames - 1) * options.frame_shift_ms;
    return InvalidArgument("{:.0f} ms of audio give {} feature frames; the model needs {} ({:.0f} ms)",
                           audio.seconds() * 1000, frames, min_frames, needed_ms);
  }
  return Status();
}

struct Task {
  int sequence;
  int64_t first_frame, num_frames;
};

}  // namespace

void FeatureBatch::Admit(std::span<const Audio> batch, const Fbank& fbank, int min_frames, ThreadPool& pool,
                         std::vector<RecognitionResult>& results) {
  utterances_.clear();
  rows_.Assign({});
  pool.ParallelFor(static_cast<int64_t>(batch.size()), [&](int64_t i, int) {
    results[i].audio_s = batch[i].seconds();
    results[i].status = CheckAudio(batch[i], fbank, min_frames);
  });
  for (size_t i = 0; i < batch.size(); ++i) {
    if (!results[i].status.ok()) continue;
    utterances_.push_back(static_cast<int>(i));
    rows_.Append(static_cast<int32_t>(fbank.NumFrames(static_cast<int64_t>(batch[i].samples.size()))));
  }
}

void FeatureBatch::Compute(std::span<const Audio> batch, const Fbank& fbank, int min_frames, ThreadPool& pool,
                           std::vector<RecognitionResult>& results) {
  Admit(batch, fbank, min_frames, pool, results);
  std::vector<Task> tasks;
  for (int b = 0; b < rows_.num_sequences(); ++b) {
    const int64_t frames = rows_.length(b);
    for (int64_t first = 0; first < frames; first += kTaskFrames) {
      tasks.push_back({b, first, std::min(kTaskFrames, frames - first)});
    }
  }
  const int64_t bins = fbank.num_mel_bins();
  features_.resize(static_cast<size_t>(rows_.num_rows()) * bins);
  pool.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t t, int) {
    const Task& task = tasks[t];
    const Audio& audio = batch[utterances_[task.sequence]];
    fbank.Compute(audio.samples, task.first_frame, task.num_frames,
                  features_.data() + (rows_.begin(task.sequence) + task.first_frame) * bins);
  });
}

}  // namespace ting
