// src/decoders/attention_search.h
// SPDX-License-Identifier: Apache-2.0
//
// Beam search on the left-to-right attention decoder, for several utterances at once.
// Inputs      encoder frames T of each utterance: a search makes at most T steps (tokens, eos included); the model
//             as a StepScorer
// State       hypotheses are paths in a tree whose rows live in an append-only pool of keys and values: a step adds
//             one row for each hypothesis that has not ended, below the row of the hypothesis it continues, so a
//             change of order in the beam moves no cache. The first step has one row an utterance, since all of its
//             hypotheses are then sos. An utterance that is done adds no rows.
// Step        score of (hypothesis, token) = score + logp for the hypothesis' `beam` best tokens, or the score itself
//             with eos for one that has ended; the `beam` best of these go on. Done: all ended, or T steps.
// Final       score / length ^ length_penalty, length = tokens that are not eos; n-best in descending order
// Numerics    scores are added in f32, as in the reference
// Ties        lower index of hypothesis x beam + token's rank
// Complexity  at most MaxSearchRows rows; selection O(beam²) a step and utterance
// Reference   WeNet attention_beam_search with a batch of one for each utterance. WeNet needs beam <= V; here a step
//             looks at min(beam, V) tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decoders/token_tree.h"
#include "ting/status.h"

namespace ting {

using StepRows = TreeRows;

class StepScorer {
 public:
  virtual ~StepScorer() = default;
  // The k best next tokens of each row: logp f32 [U, k] descending, ids s32 [U, k]. Rows are new; the slots before
  // theirs hold what earlier calls stored there. rows.size() > 0.
  virtual Status Step(const StepRows& rows, int k, std::vector<float>* logp, std::vector<int32_t>* ids) = 0;
};

struct AttentionSearchOptions {
  int beam = 10;
  float length_penalty = 0;
  int32_t sos_id = 0;
  int32_t eos_id = 0;
  int32_t vocab_size = 0;  // V
};

struct AttentionHypothesis {
  std::vector<int32_t> tokens;  // without eos
  double score = 0;             // length-normalised
  double decoder_score = 0;     // sum of log-probabilities, before the division
  bool ended = false;           // predicted eos; false: cut at T steps
};

// Rows that a search over utterances of these lengths can need at most: the size of the pool.
int64_t MaxSearchRows(std::span<const int32_t> encoder_frames, int beam);

// For each utterance its hypotheses, at most `beam`, best first. An utterance of 0 frames has one empty hypothesis
// with score 0. Fails with the scorer's status, and when log-probabilities are NaN or their count is wrong.
Result<std::vector<std::vector<AttentionHypothesis>>> AttentionSearch(std::span<const int32_t> encoder_frames,
                                                                      const AttentionSearchOptions& options,
                                                                      StepScorer* scorer);

}  // namespace ting
