// src/engine/feature_batch.h
// SPDX-License-Identifier: Apache-2.0
//
// The features of a batch of utterances, packed row after row, and which utterances are in it: those that cannot be
// recognised (too short, wrong rate, not finite) get their own status and are left out of the step.
#pragma once

#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "frontend/fbank.h"
#include "tensor/row_set.h"
#include "ting/recognizer.h"

namespace ting {

class FeatureBatch {
 public:
  // Which utterances are in the batch, with results[i].status and audio_s of every one, and how many frames they have.
  void Admit(std::span<const Audio> batch, const Fbank& fbank, int min_frames, ThreadPool& pool,
             std::vector<RecognitionResult>& results);
  // The same, and their features. Reuses its memory from call to call.
  void Compute(std::span<const Audio> batch, const Fbank& fbank, int min_frames, ThreadPool& pool,
               std::vector<RecognitionResult>& results);

  const float* features() const { return features_.data(); }  // [rows().num_rows(), num_mel_bins]
  const RowSet& rows() const { return rows_; }
  const std::vector<int>& utterances() const { return utterances_; }  // index in the batch of each sequence

 private:
  std::vector<float> features_;
  RowSet rows_;
  std::vector<int> utterances_;
};

}  // namespace ting
