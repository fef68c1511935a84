// tests/decoders/rescoring_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/rescoring.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/decoders/decoder_testing.h"

namespace ting {
namespace {

using testing::Npz;
using testing::SharedPath;
using testing::SourcePath;
using testing::TokenList;
constexpr int32_t kEos = 9;

TokenTree Tree(const std::vector<TokenList>& hypotheses, TokenDirection direction, int32_t eos = kEos) {
  const TokenLists views(hypotheses.begin(), hypotheses.end());
  return BuildTokenTree({&views, 1}, direction, eos, eos);
}

// Per-target scores from a table of each hypothesis' predictions, as op target_logp would give them.
std::vector<float> Scatter(const TokenTree& tree, const std::vector<std::vector<float>>& logp) {
  std::vector<float> targets(tree.target_ids.size(), 1.0F);
  for (size_t h = 0; h < logp.size(); ++h) {
    const auto index = tree.targets(0, static_cast<int>(h));
    for (size_t j = 0; j < index.size(); ++j) targets[index[j]] = logp[h][j];
  }
  return targets;
}

TEST(Rescoring, WorkedExample) {
  const std::vector<TokenList> hypotheses{{1, 2}, {3}};
  const TokenTree left = Tree(hypotheses, TokenDirection::kLeftToRight);
  const TokenTree right = Tree(hypotheses, TokenDirection::kRightToLeft);
  const std::vector<float> left_logp = Scatter(left, {{-1, -2, -3}, {-0.5F, -0.25F}});
  const std::vector<float> right_logp = Scatter(right, {{-0.1F, -0.2F, -0.3F}, {-4, -5}});
  const std::vector<double> ctc{-1, -10};

  // r = 0.5: attention -3.3 and -4.875; ctc weight 0.3.
  const auto both = Rescore(0, ctc, {&left, left_logp}, {&right, right_logp}, {0.3, 0.5});
  ASSERT_TRUE(both.ok()) << both.status().message();
  ASSERT_EQ(both->size(), 2U);
  const RescoredHypothesis& best = (*both)[0];
  EXPECT_EQ(best.index, 0);
  EXPECT_NEAR(best.left_score, -6, 1e-6);
  EXPECT_NEAR(best.right_score, -0.6, 1e-6);
  EXPECT_NEAR(best.attention_score, -3.3, 1e-6);
  EXPECT_NEAR(best.score, -3.6, 1e-6);
  EXPECT_NEAR(best.confidence, std::exp(-3.3 / 3), 1e-6);
  ASSERT_EQ(best.token_confidences.size(), 2U);
  EXPECT_NEAR(best.token_confidences[0], (std::exp(-1) + std::exp(-0.2)) / 2, 1e-6) << "y1 is the right decoder's 2nd";
  EXPECT_NEAR(best.token_confidences[1], (std::exp(-2) + std::exp(-0.1)) / 2, 1e-6);

  // r = 0, no CTC: the other one wins, and the right decoder need not exist.
  const auto one = Rescore(0, ctc, {&left, left_logp}, {}, {0, 0});
  ASSERT_TRUE(one.ok());
  EXPECT_EQ((*one)[0].index, 1);
  EXPECT_NEAR((*one)[0].score, -0.75, 1e-6);
  EXPECT_NEAR((*one)[0].token_confidences[0], std::exp(-0.5), 1e-6);
  EXPECT_EQ((*one)[0].right_score, 0);
}

TEST(Rescoring, EqualScoresKeepTheirOrder) {
  const std::vector<TokenList> hypotheses{{1}, {2}, {3}};
  const TokenTree left = Tree(hypotheses, TokenDirection::kLeftToRight);
  const std::vector<float> logp = Scatter(left, {{-1, -1}, {-0.5F, -0.5F}, {-1.5F, 0.5F}});
  const auto nbest = Rescore(0, std::vector<double>{-2, -3, -2}, {&left, logp}, {}, {1, 0});
  ASSERT_TRUE(nbest.ok());
  EXPECT_EQ((*nbest)[0].index, 2);
  EXPECT_EQ((*nbest)[1].index, 0);
  EXPECT_EQ((*nbest)[2].index, 1);
  EXPECT_EQ((*nbest)[1].score, (*nbest)[2].score);
}

TEST(Rescoring, EmptyHypothesisAndImpossibleCtc) {
  const TokenTree left = Tree({{}}, TokenDirection::kLeftToRight);
  const std::vector<float> logp{-0.5F};
  const auto nbest = Rescore(0, std::vector<double>{-INFINITY}, {&left, logp}, {}, {0, 0});
  ASSERT_TRUE(nbest.ok());
  EXPECT_NEAR((*nbest)[0].score, -0.5, 1e-7);
  EXPECT_NEAR((*nbest)[0].confidence, std::exp(-0.5), 1e-7);
  EXPECT_TRUE((*nbest)[0].token_confidences.empty());
}

TEST(Rescoring, RefusesWhatDoesNotFit) {
  const TokenTree left = Tree({{1}}, TokenDirection::kLeftToRight);
  const std::vector<float> logp{-1, -1}, few{-1}, nan{NAN, -1};
  const std::vector<double> ctc{-1}, two{-1, -1};
  EXPECT_TRUE(Rescore(0, ctc, {&left, logp}, {}, {0.5, 0}).ok());
  EXPECT_FALSE(Rescore(0, ctc, {&left, logp}, {}, {0.5, 0.5}).ok()) << "no right decoder";
  EXPECT_FALSE(Rescore(0, ctc, {&left, logp}, {}, {0.5, -0.1}).ok());
  EXPECT_FALSE(Rescore(0, ctc, {&left, logp}, {&left, logp}, {0.5, 1.1}).ok());
  EXPECT_FALSE(Rescore(0, ctc, {&left, logp}, {&left, few}, {0.5, 0.5}).ok());
  EXPECT_FALSE(Rescore(0, ctc, {&left, logp}, {}, {NAN, 0}).ok());
  EXPECT_FALSE(Rescore(0, ctc, {&left, few}, {}, {0.5, 0}).ok());
  EXPECT_FALSE(Rescore(0, ctc, {&left, nan}, {}, {0.5, 0}).ok());
  EXPECT_FALSE(Rescore(0, two, {&left, logp}, {}, {0.5, 0}).ok());
  EXPECT_FALSE(Rescore(1, ctc, {&left, logp}, {}, {0.5, 0}).ok());
  EXPECT_FALSE(Rescore(0, ctc, {}, {}, {0.5, 0}).ok());
}

struct Golden {
  std::vector<TokenList> hypotheses;
  std::vector<double> ctc;
  std::vector<std::vector<float>> left, right;
};

Golden LoadGolden(const Npz& search, const Npz& decoder, const std::string& name) {
  Golden golden;
  golden.ctc = search[name + ".prefix.scores"].As<double>();
  const std::vector<int32_t> lens = search[name + ".prefix.lens"].As<int32_t>();
  const auto rows = [&lens](const testing::NpyArray& array) {
    const std::vector<float> all = array.As<float>();
    std::vector<std::vector<float>> result;
    for (size_t i = 0; i < lens.size(); ++i) {
      const auto begin = all.begin() + static_cast<int64_t>(i) * array.shape[1];
      result.emplace_back(begin, begin + lens[i] + 1);
    }
    return result;
  };
  for (size_t i = 0; i < lens.size(); ++i) {
    golden.hypotheses.push_back(testing::GoldenRow(search[name + ".prefix.tokens"], static_cast<int>(i), lens[i]));
  }
  golden.left = rows(decoder[name + ".left.target_logp"]);
  if (decoder.Has(name + ".right.target_logp")) golden.right = rows(decoder[name + ".right.target_logp"]);
  return golden;
}

void CompareMode(const Npz& search, const std::string& mode, const Golden& golden, double ctc_weight, double reverse) {
  const TokenTree left = Tree(golden.hypotheses, TokenDirection::kLeftToRight, 4232);
  const TokenTree right = Tree(golden.hypotheses, TokenDirection::kRightToLeft, 4232);
  const std::vector<float> left_logp = Scatter(left, golden.left), right_logp = Scatter(right, golden.right);
  const auto nbest = Rescore(0, golden.ctc, {&left, left_logp}, {&right, right_logp}, {ctc_weight, reverse});
  ASSERT_TRUE(nbest.ok()) << nbest.status().message();
  const std::vector<double> scores = search[mode + ".scores"].As<double>();
  const std::vector<double> confidences = search[mode + ".confidences"].As<double>();
  const std::vector<double> tokens = search[mode + ".tokens_confidence"].As<double>();
  ASSERT_EQ(nbest->size(), scores.size());
  for (const RescoredHypothesis& h : *nbest) {
    EXPECT_NEAR(h.score, scores[h.index], 1e-3) << mode;
    EXPECT_NEAR(h.left_score, search[mode + ".left_scores"].As<double>()[h.index], 1e-3) << mode;
    if (reverse > 0) {
      EXPECT_NEAR(h.right_score, search[mode + ".right_scores"].As<double>()[h.index], 1e-3) << mode;
    }
    EXPECT_NEAR(h.confidence, confidences[h.index], 1e-4) << mode;
  }
  const RescoredHypothesis& best = nbest->front();
  EXPECT_EQ(best.index, search[mode + ".best"].As<int32_t>()[0]) << mode;
  EXPECT_EQ(golden.hypotheses[best.index], search[mode + ".tokens"].As<int32_t>()) << mode;
  ASSERT_EQ(best.token_confidences.size(), tokens.size());
  for (size_t j = 0; j < tokens.size(); ++j) EXPECT_NEAR(best.token_confidences[j], tokens[j], 1e-5) << mode;
}

// Modes "R.rescore_cC_rW" of all recordings whose decoder scores the goldens hold; returns how many there were.
int CompareWithGolden(const std::string& folder) {
  const Npz search = Npz::Load(folder + "/search.npz");
  const Npz decoder = Npz::Load(folder + "/decoder.npz");
  int compared = 0;
  for (const std::string& name : testing::NamesWith(decoder, ".left.target_logp")) {
    const Golden golden = LoadGolden(search, decoder, name);
    for (const std::string& mode : testing::NamesWith(search, ".left_scores")) {
      double ctc_weight = 0, reverse = 0;
      if (!mode.starts_with(name + ".rescore")) continue;
      const int numbers = std::sscanf(mode.c_str() + name.size(), ".rescore_c%lf_r%lf", &ctc_weight, &reverse);
      EXPECT_EQ(numbers, 2) << mode;
      CompareMode(search, mode, golden, ctc_weight, reverse);
      ++compared;
    }
  }
  return compared;
}

TEST(Rescoring, MatchesShippedGolden) { EXPECT_GE(CompareWithGolden(SourcePath("tests/golden/shipped")), 4); }

TEST(Rescoring, MatchesLargeGoldens) {
  TING_REQUIRE_SHARED();
  for (const char* model : {"tiny", "u2pp", "aishell"}) {
    SCOPED_TRACE(model);
    EXPECT_GE(CompareWithGolden(SharedPath(std::string("golden/") + model)), 2);
  }
}

}  // namespace
}  // namespace ting
