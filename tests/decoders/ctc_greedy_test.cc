// tests/decoders/ctc_greedy_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/ctc_greedy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/decoders/decoder_testing.h"

namespace ting {
namespace {

using testing::Npz;
using testing::OwnedFrames;
using testing::SourcePath;
using testing::TokenList;

OwnedFrames Path(std::vector<int32_t> ids, std::vector<float> probabilities) {
  OwnedFrames frames{{}, std::move(ids), static_cast<int32_t>(probabilities.size()), 1};
  for (const float p : probabilities) frames.logp.push_back(std::log(p));
  return frames;
}

TEST(CtcGreedy, MergesRepeatsAndFindsPeaks) {
  const OwnedFrames frames = Path({0, 7, 7, 7, 0, 7, 3, 3, 0}, {.9F, .5F, .8F, .6F, .9F, .4F, .7F, .7F, 1.F});
  const GreedyResult result = CtcGreedySearch(frames.view(), 0);
  EXPECT_EQ(result.tokens, (TokenList{7, 7, 3}));
  EXPECT_EQ(result.times, (TokenList{2, 5, 6})) << "equal peaks: the earliest";
  ASSERT_EQ(result.confidences.size(), 3U);
  EXPECT_NEAR(result.confidences[0], 0.8, 1e-6);
  EXPECT_NEAR(result.confidences[1], 0.4, 1e-6);
  EXPECT_NEAR(result.confidences[2], 0.7, 1e-6);
  EXPECT_NEAR(result.score, std::log(.9 * .5 * .8 * .6 * .9 * .4 * .7 * .7), 1e-5);
}

TEST(CtcGreedy, BlankIsTheCallersChoice) {
  const OwnedFrames frames = Path({0, 5, 0, 5, 5}, {.9F, .9F, .9F, .9F, .9F});
  EXPECT_EQ(CtcGreedySearch(frames.view(), 5).tokens, (TokenList{0, 0}));
}

TEST(CtcGreedy, NothingAndBlanksGiveNoTokens) {
  const GreedyResult nothing = CtcGreedySearch({}, 0);
  EXPECT_TRUE(nothing.tokens.empty());
  EXPECT_EQ(nothing.score, 0);
  const OwnedFrames blanks = Path({0, 0, 0}, {.5F, .5F, .5F});
  EXPECT_TRUE(CtcGreedySearch(blanks.view(), 0).tokens.empty());
  EXPECT_NEAR(CtcGreedySearch(blanks.view(), 0).score, 3 * std::log(.5), 1e-6);
}

TEST(CtcGreedy, MatchesUnitGolden) {
  const Npz unit = Npz::Load(SourcePath("tests/golden/shipped/unit.npz"));
  const std::vector<std::string> cases = testing::NamesWith(unit, ".greedy");
  ASSERT_GE(cases.size(), 7U);
  for (const std::string& name : cases) {
    const auto& logp = unit[name + ".logp"];
    const OwnedFrames frames = testing::TopK(logp.As<float>(), static_cast<int>(logp.shape[1]), 1);
    EXPECT_EQ(CtcGreedySearch(frames.view(), 0).tokens, unit[name + ".greedy"].As<int32_t>()) << name;
  }
}

void CompareWithGolden(const std::string& folder) {
  const Npz ctc = Npz::Load(folder + "/ctc.npz");
  const Npz search = Npz::Load(folder + "/search.npz");
  const std::vector<std::string> recordings = testing::NamesWith(search, ".greedy");
  ASSERT_GE(recordings.size(), 6U);
  for (const std::string& name : recordings) {
    const auto& ids = ctc[name + ".top10_ids"];
    const OwnedFrames frames{ctc[name + ".top10_logp"].As<float>(), ids.As<int32_t>(),
                             static_cast<int32_t>(ids.shape[0]), static_cast<int32_t>(ids.shape[1])};
    const GreedyResult result = CtcGreedySearch(frames.view(), 0);
    EXPECT_EQ(result.tokens, search[name + ".greedy"].As<int32_t>()) << name;
    EXPECT_EQ(result.times.size(), result.tokens.size()) << name;
    EXPECT_TRUE(std::is_sorted(result.times.begin(), result.times.end())) << name;
  }
}

TEST(CtcGreedy, MatchesShippedGolden) { CompareWithGolden(SourcePath("tests/golden/shipped")); }

TEST(CtcGreedy, MatchesLargeGoldens) {
  TING_REQUIRE_SHARED();
  for (const char* model : {"tiny", "u2pp", "aishell"}) {
    SCOPED_TRACE(model);
    CompareWithGolden(testing::SharedPath(std::string("golden/") + model));
  }
}

}  // namespace
}  // namespace ting
