// src/decoders/token_tree.h
// SPDX-License-Identifier: Apache-2.0
//
// TokenTree: the n-best lists of a batch of utterances as rows for an attention decoder, where hypotheses that begin
// alike share the rows of their beginning. A row is a token in its context; the root of an utterance's tree is sos.
// Rows feed ops embed, tree_attention and cross_attention, targets op target_logp (kernels/attention.h, output_head.h).
//
// Inputs      per utterance its hypotheses (token lists, equal ones allowed); direction
// Order       rows of an utterance are adjacent and a row follows its parent; slots are row numbers. Targets ascend
//             by row; a (row, id) that several hypotheses ask for is one target.
// Sharing     10-best lists mostly differ in one or two tokens, so a tree has a fraction of the rows of 10 lists.
//             Sharing is exact: a row's output depends on its ancestors only.
// Complexity  O(tokens x children of a node); ancestor lists are quadratic in the length of a hypothesis
// Reference   WeNet's forward_attention_decoder pads and runs all hypotheses instead; equal scores
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ting {

// Rows of a step of a token decoder, for rescoring and for the attention search alike.
struct TreeRows {
  std::vector<int32_t> tokens;            // [U] the row's input token
  std::vector<int32_t> positions;         // [U] 0 for sos
  std::vector<int32_t> slots;             // [U] where the row keeps its keys and values
  std::vector<int32_t> ancestor_offsets;  // [U + 1] into ancestors
  std::vector<int32_t> ancestors;         // [A] slots of the path from the root to the row, itself last
  std::vector<int32_t> sequence;          // [U] utterance, ascending

  TreeRows() : ancestor_offsets{0} {}
  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  std::span<const int32_t> path(int64_t row) const {
    return {ancestors.data() + ancestor_offsets[row], ancestors.data() + ancestor_offsets[row + 1]};
  }
  void Clear();  // keeps its memory
  // A row below `parent_path` (empty: a root; not a path of this object); its position is the length of that path.
  void Append(int32_t token, int32_t slot, std::span<const int32_t> parent_path, int32_t utterance);
};

enum class TokenDirection {
  kLeftToRight,  // reads sos y1 … yL, predicts y1 … yL eos
  kRightToLeft,  // reads sos yL … y1, predicts yL … y1 eos
};

// The hypotheses of one utterance.
using TokenLists = std::vector<std::span<const int32_t>>;

struct TokenTree {
  TreeRows rows;
  std::vector<int32_t> target_rows;  // [G] ascending
  std::vector<int32_t> target_ids;   // [G]
  // targets(u, h) are target_index[hypothesis_offsets[i]] … for i = utterance_offsets[u] + h.
  std::vector<int32_t> utterance_offsets;   // [B + 1] into hypotheses
  std::vector<int32_t> hypothesis_offsets;  // [sum N + 1] into target_index
  std::vector<int32_t> target_index;        // [sum (L + 1)]

  int num_utterances() const { return static_cast<int>(utterance_offsets.size()) - 1; }
  int num_hypotheses(int utterance) const { return utterance_offsets[utterance + 1] - utterance_offsets[utterance]; }
  // [L + 1] which target holds each prediction, in the direction's order, eos last.
  std::span<const int32_t> targets(int utterance, int hypothesis) const {
    const int32_t i = utterance_offsets[utterance] + hypothesis;
    return {target_index.data() + hypothesis_offsets[i], target_index.data() + hypothesis_offsets[i + 1]};
  }
};

TokenTree BuildTokenTree(std::span<const TokenLists> utterances, TokenDirection direction, int32_t sos_id,
                         int32_t eos_id);

}  // namespace ting
