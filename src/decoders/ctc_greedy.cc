// src/decoders/ctc_greedy.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/ctc_greedy.h"

#include <cmath>

namespace ting {

GreedyResult CtcGreedySearch(const CtcFrames& frames, int32_t blank_id) {
  GreedyResult result;
  int32_t previous = blank_id;
  float peak = 0;
  for (int32_t t = 0; t < frames.num_frames; ++t) {
    const int32_t token = frames.frame_ids(t)[0];
    const float logp = frames.frame_logp(t)[0];
    result.score += logp;
    const bool starts = token != previous;
    previous = token;
    if (token == blank_id || (!starts && logp <= peak)) continue;
    if (starts) {
      result.tokens.push_back(token);
      result.times.emplace_back();
      result.confidences.emplace_back();
    }
    peak = logp;
    result.times.back() = t;
    result.confidences.back() = std::exp(static_cast<double>(logp));
  }
  return result;
}

}  // namespace ting
