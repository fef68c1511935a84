// src/decoders/ctc_frames.h
// SPDX-License-Identifier: Apache-2.0
//
// CtcFrames: what the CTC searches see of the acoustic model: for each of T frames the k best symbols, best first, as
// op log_softmax_topk writes them (equal log-probabilities: lower id first). The [T, V] matrix never reaches a search.
#pragma once

#include <cstdint>

namespace ting {

struct CtcFrames {
  const float* logp = nullptr;   // [T, k], natural log, descending in k
  const int32_t* ids = nullptr;  // [T, k]
  int32_t num_frames = 0;        // T
  int32_t k = 0;

  const float* frame_logp(int32_t t) const { return logp + int64_t{t} * k; }
  const int32_t* frame_ids(int32_t t) const { return ids + int64_t{t} * k; }
  // Frames [begin, begin + count): one utterance of a packed batch, or one chunk of an utterance.
  CtcFrames Slice(int32_t begin, int32_t count) const { return {frame_logp(begin), frame_ids(begin), count, k}; }
};

}  // namespace ting
