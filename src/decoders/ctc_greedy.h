// src/decoders/ctc_greedy.h
// SPDX-License-Identifier: Apache-2.0
//
// CTC greedy search: the best symbol of each frame, repeats merged, blanks dropped.
// Inputs      CtcFrames with k >= 1; only the first column is read. No state between calls.
// Score       sum of the best log-probabilities of all frames, blanks included: the log-probability of the best path
// Times       a token's peak is the frame of its run in which it is most probable; equal: the earliest
// Ties        between symbols of a frame: the order of CtcFrames (lower id first)
// Complexity  O(T)
// Reference   WeNet ctc_greedy_search (tokens; WeNet gives neither score nor times)
#pragma once

#include <cstdint>
#include <vector>

#include "decoders/ctc_frames.h"

namespace ting {

struct GreedyResult {
  std::vector<int32_t> tokens;
  std::vector<int32_t> times;       // [U] peak frames, ascending
  std::vector<double> confidences;  // [U] exp(log-probability at the peak)
  double score = 0;
};

GreedyResult CtcGreedySearch(const CtcFrames& frames, int32_t blank_id);

}  // namespace ting
