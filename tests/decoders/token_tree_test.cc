// tests/decoders/token_tree_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/token_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace ting {
namespace {

using TokenList = std::vector<int32_t>;
using Batch = std::vector<std::vector<TokenList>>;
constexpr int32_t kSos = 98, kEos = 99;

std::vector<TokenLists> Views(const Batch& batch) {
  std::vector<TokenLists> views;
  for (const std::vector<TokenList>& utterance : batch) views.emplace_back(utterance.begin(), utterance.end());
  return views;
}

TokenTree Build(const Batch& batch, TokenDirection direction, int32_t sos = kSos, int32_t eos = kEos) {
  return BuildTokenTree(Views(batch), direction, sos, eos);
}

TEST(TokenTree, SharesPrefixes) {
  const TokenTree tree = Build({{{5, 6, 7}, {5, 6}, {5, 8, 7}, {}}}, TokenDirection::kLeftToRight);
  EXPECT_EQ(tree.rows.tokens, (TokenList{kSos, 5, 6, 7, 8, 7}));
  EXPECT_EQ(tree.rows.positions, (TokenList{0, 1, 2, 3, 2, 3}));
  EXPECT_EQ(tree.rows.slots, (TokenList{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(tree.rows.sequence, (TokenList{0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(tree.rows.ancestor_offsets, (TokenList{0, 1, 3, 6, 10, 13, 17}));
  EXPECT_EQ(tree.rows.ancestors, (TokenList{0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 4, 0, 1, 4, 5}));
  // sos: 5 and eos (the empty hypothesis); 5: 6 and 8; 6: 7 and eos; both 7: eos; 8: 7.
  EXPECT_EQ(tree.target_rows, (TokenList{0, 0, 1, 1, 2, 2, 3, 4, 5}));
  EXPECT_EQ(tree.target_ids, (TokenList{5, kEos, 6, 8, 7, kEos, kEos, 7, kEos}));
}

TEST(TokenTree, RightToLeftReadsBackwards) {
  const TokenTree tree = Build({{{1, 2, 3}, {4, 2, 3}}}, TokenDirection::kRightToLeft);
  EXPECT_EQ(tree.rows.tokens, (TokenList{kSos, 3, 2, 1, 4}));
  const auto targets = tree.targets(0, 1);
  TokenList ids;
  for (const int32_t g : targets) ids.push_back(tree.target_ids[g]);
  EXPECT_EQ(ids, (TokenList{3, 2, 4, kEos}));
}

TEST(TokenTree, EmptyInputs) {
  EXPECT_EQ(Build({}, TokenDirection::kLeftToRight).rows.size(), 0);
  const TokenTree tree = Build({{}, {{}}, {}}, TokenDirection::kLeftToRight);
  EXPECT_EQ(tree.rows.size(), 1);
  EXPECT_EQ(tree.rows.sequence, TokenList{1});
  EXPECT_EQ(tree.num_utterances(), 3);
  EXPECT_EQ(tree.num_hypotheses(0), 0);
  EXPECT_EQ(tree.num_hypotheses(1), 1);
  EXPECT_EQ(tree.target_ids, TokenList{kEos});
}

// What a row reads when its ancestors are followed, and what each hypothesis asks of it: the definition of the tree.
void ExpectPaths(const TokenTree& tree, const Batch& batch, bool reversed, int32_t sos, int32_t eos) {
  std::set<std::pair<int32_t, TokenList>> contexts;
  ASSERT_EQ(tree.num_utterances(), static_cast<int>(batch.size()));
  for (int u = 0; u < tree.num_utterances(); ++u) {
    ASSERT_EQ(tree.num_hypotheses(u), static_cast<int>(batch[u].size()));
    for (int h = 0; h < tree.num_hypotheses(u); ++h) {
      TokenList predictions = batch[u][h];
      if (reversed) std::reverse(predictions.begin(), predictions.end());
      predictions.push_back(eos);
      TokenList context{sos};
      const auto targets = tree.targets(u, h);
      ASSERT_EQ(targets.size(), predictions.size());
      for (size_t j = 0; j < predictions.size(); ++j) {
        const int32_t row = tree.target_rows[targets[j]];
        EXPECT_EQ(tree.target_ids[targets[j]], predictions[j]);
        EXPECT_EQ(tree.rows.sequence[row], u);
        EXPECT_EQ(tree.rows.positions[row], static_cast<int32_t>(j));
        TokenList read;
        for (const int32_t slot : tree.rows.path(row)) read.push_back(tree.rows.tokens[slot]);
        EXPECT_EQ(read, context);
        contexts.insert({u, context});
        context.push_back(predictions[j]);
      }
    }
  }
  // The rows are these contexts and nothing else (a last token's row predicts eos, so it is in use, too).
  EXPECT_EQ(static_cast<size_t>(tree.rows.size()), contexts.size());
}

void ExpectOrder(const TokenTree& tree) {
  EXPECT_TRUE(std::is_sorted(tree.target_rows.begin(), tree.target_rows.end()));
  EXPECT_TRUE(std::is_sorted(tree.rows.sequence.begin(), tree.rows.sequence.end()));
  std::set<std::pair<int32_t, int32_t>> distinct;
  for (size_t g = 0; g < tree.target_ids.size(); ++g) distinct.insert({tree.target_rows[g], tree.target_ids[g]});
  EXPECT_EQ(distinct.size(), tree.target_ids.size()) << "equal targets are shared";
  std::set<int32_t> used(tree.target_index.begin(), tree.target_index.end());
  EXPECT_EQ(used.size(), tree.target_ids.size()) << "no target is unused";
  for (int64_t row = 0; row < tree.rows.size(); ++row) {
    EXPECT_EQ(tree.rows.slots[row], row);
    const auto path = tree.rows.path(row);
    EXPECT_TRUE(std::is_sorted(path.begin(), path.end()));
    EXPECT_EQ(path.back(), row);
  }
}

TEST(TokenTree, RandomBatchesReproduceEveryPath) {
  std::mt19937 random(21);
  for (int trial = 0; trial < 200; ++trial) {
    Batch batch(random() % 4);
    for (auto& utterance : batch) {
      utterance.resize(random() % 12);
      for (TokenList& tokens : utterance) {
        tokens.resize(random() % 7);
        for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 3);
      }
    }
    // Token 2 is eos in half of the trials: as an ordinary symbol it must share the target of the end.
    const int32_t eos = trial % 2 == 0 ? 2 : kEos;
    for (const TokenDirection direction : {TokenDirection::kLeftToRight, TokenDirection::kRightToLeft}) {
      const TokenTree tree = Build(batch, direction, eos, eos);
      ExpectPaths(tree, batch, direction == TokenDirection::kRightToLeft, eos, eos);
      ExpectOrder(tree);
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace ting
