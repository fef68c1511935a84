// src/decoders/rescoring.h
// SPDX-License-Identifier: Apache-2.0
//
// Attention rescoring: combines the CTC scores of an n-best list with the scores of the attention decoder(s).
//   attention = (1 - r) * (sum of left log-probabilities, eos included) + r * (the same of the right decoder)
//   score     = attention + ctc_weight * ctc
//   confidence = exp(attention / (L + 1));  of a token: its probability, with r > 0 the mean of both directions'
// Inputs      trees as they were run, and op target_logp's output for each; ctc scores in the order of the hypotheses
// Order       descending by score; equal: the order of the n-best list (WeNet: the first maximum wins)
// Numerics    sums in double over f32 log-probabilities (WeNet adds in f32; differences stay under 1e-3)
// Complexity  O(tokens). No state.
// Reference   WeNet attention_rescoring, Python
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decoders/token_tree.h"
#include "ting/status.h"

namespace ting {

struct RescoringWeights {
  double ctc_weight = 0.5;
  double reverse_weight = 0;  // r, 0 to 1; more than 0 needs the right decoder's scores
};

// What a decoder said about a batch: `logp` [G] beside the tree's targets. No tree: there is no such decoder.
struct DecoderScores {
  const TokenTree* tree = nullptr;
  std::span<const float> logp;
};

struct RescoredHypothesis {
  int index = 0;  // in the n-best list
  double score = 0;
  double attention_score = 0;
  double left_score = 0;   // sums over tokens and eos
  double right_score = 0;  // 0 when r is 0
  double ctc_score = 0;
  double confidence = 0;
  std::vector<double> token_confidences;  // [L] in reading order
};

// The hypotheses of one utterance, best first. Refuses weights outside their range, r > 0 without a right tree, and
// scores whose counts do not fit the trees.
Result<std::vector<RescoredHypothesis>> Rescore(int utterance, std::span<const double> ctc_scores,
                                                const DecoderScores& left, const DecoderScores& right,
                                                const RescoringWeights& weights);

}  // namespace ting
