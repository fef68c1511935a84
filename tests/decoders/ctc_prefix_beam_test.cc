// tests/decoders/ctc_prefix_beam_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/ctc_prefix_beam.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>

#include "decoders/ctc_greedy.h"
#include "tests/decoders/plain_prefix_beam.h"

namespace ting {
namespace {

using testing::kMinusInf;
using testing::Npz;
using testing::OwnedFrames;
using testing::SharedPath;
using testing::SourcePath;
using testing::TokenList;

std::vector<PrefixHypothesis> Decode(const OwnedFrames& frames, int beam) {
  CtcPrefixBeam search({.beam = beam, .token_beam = frames.k, .blank_id = 0});
  const Status status = search.AcceptFrames(frames.view());
  EXPECT_TRUE(status.ok()) << status.message();
  return search.NBest();
}

// The n-best against arrays `prefix`.tokens and so on; returns the largest difference of a score.
double CompareNBest(const std::vector<PrefixHypothesis>& nbest, const Npz& golden, const std::string& prefix) {
  const std::vector<int32_t> lens = golden[prefix + ".lens"].As<int32_t>();
  const std::vector<double> scores = golden[prefix + ".scores"].As<double>();
  const std::vector<double> viterbi = golden[prefix + ".viterbi_scores"].As<double>();
  const std::vector<double> s_ns = golden[prefix + ".s_ns"].As<double>();
  EXPECT_EQ(nbest.size(), lens.size()) << prefix;
  if (nbest.size() != lens.size()) return INFINITY;
  double worst = 0;
  const auto compare = [&worst](double a, double b) {
    if (a != b) worst = std::max(worst, std::abs(a - b));  // -inf equals -inf
  };
  for (size_t i = 0; i < nbest.size(); ++i) {
    const int n = static_cast<int>(i);
    EXPECT_EQ(nbest[i].tokens, testing::GoldenRow(golden[prefix + ".tokens"], n, lens[i])) << prefix << " " << i;
    EXPECT_EQ(nbest[i].times, testing::GoldenRow(golden[prefix + ".times"], n, lens[i])) << prefix << " " << i;
    compare(nbest[i].score, scores[i]);
    compare(nbest[i].viterbi_score, viterbi[i]);
    compare(nbest[i].blank_score, s_ns[2 * i]);
    compare(nbest[i].token_score, s_ns[2 * i + 1]);
  }
  return worst;
}

TEST(CtcPrefixBeam, WorkedTable) {
  std::vector<float> matrix;
  for (const double p : {.25, .40, .35, .40, .35, .25, .10, .50, .40})
    matrix.push_back(std::log(static_cast<float>(p)));
  const std::vector<PrefixHypothesis> nbest = Decode(testing::TopK(matrix, 3, 3), 3);
  ASSERT_EQ(nbest.size(), 3U);
  EXPECT_EQ(nbest[0].tokens, (TokenList{2, 1}));
  EXPECT_EQ(nbest[0].times, (TokenList{0, 2}));
  EXPECT_NEAR(std::exp(nbest[0].score), 0.2185, 1e-6);
  EXPECT_NEAR(std::exp(nbest[0].viterbi_score), 0.07, 1e-6);
  EXPECT_EQ(nbest[1].tokens, (TokenList{1, 2}));
  EXPECT_NEAR(std::exp(nbest[1].score), 0.1550, 1e-6);
  EXPECT_NEAR(std::exp(nbest[1].viterbi_score), 0.064, 1e-6);
  EXPECT_EQ(nbest[2].tokens, (TokenList{1}));
  EXPECT_EQ(nbest[2].times, (TokenList{2}));
  EXPECT_NEAR(std::exp(nbest[2].score), 0.1525, 1e-6);
}

TEST(CtcPrefixBeam, MatchesUnitGolden) {
  const Npz unit = Npz::Load(SourcePath("tests/golden/shipped/unit.npz"));
  const std::vector<std::string> cases = testing::NamesWith(unit, ".beam");
  ASSERT_GE(cases.size(), 7U);
  for (const std::string& name : cases) {
    const auto& logp = unit[name + ".logp"];
    const int beam = unit[name + ".beam"].As<int32_t>()[0];
    const OwnedFrames frames = testing::TopK(logp.As<float>(), static_cast<int>(logp.shape[1]), beam);
    EXPECT_LT(CompareNBest(Decode(frames, beam), unit, name), 1e-12) << name;
  }
}

void CompareWithGolden(const std::string& folder) {
  const Npz ctc = Npz::Load(folder + "/ctc.npz");
  const Npz search = Npz::Load(folder + "/search.npz");
  const std::vector<std::string> recordings = testing::NamesWith(search, ".prefix.tokens");
  ASSERT_GE(recordings.size(), 6U);
  for (const std::string& name : recordings) {
    const auto& ids = ctc[name + ".top10_ids"];
    const OwnedFrames frames{ctc[name + ".top10_logp"].As<float>(), ids.As<int32_t>(),
                             static_cast<int32_t>(ids.shape[0]), static_cast<int32_t>(ids.shape[1])};
    // The same f32 log-probabilities and the same additions: only libm's exp and log can differ.
    EXPECT_LT(CompareNBest(Decode(frames, 10), search, name + ".prefix"), 1e-10) << name;
  }
}

TEST(CtcPrefixBeam, MatchesShippedGolden) { CompareWithGolden(SourcePath("tests/golden/shipped")); }

TEST(CtcPrefixBeam, MatchesLargeGoldens) {
  TING_REQUIRE_SHARED();
  for (const char* model : {"tiny", "u2pp", "aishell"}) {
    SCOPED_TRACE(model);
    CompareWithGolden(SharedPath(std::string("golden/") + model));
  }
}

TEST(CtcPrefixBeam, RealPosteriorsGiveTheSentence) {
  TING_REQUIRE_SHARED();
  const Npz npz = Npz::Load(SharedPath("real/golden/ctc_log_probs_BAC009S0764W0121.npz"));
  const auto& logp = npz["ctc_log_probs"];
  std::map<int32_t, std::string> units;
  std::ifstream file(SharedPath("real/aishell/units.txt"));
  std::string unit;
  for (int32_t id; file >> unit >> id;) units[id] = unit;
  const auto text = [&units](const TokenList& tokens) {
    std::string joined;
    for (const int32_t token : tokens) joined += units.at(token);
    return joined;
  };
  const OwnedFrames frames = testing::TopK(logp.As<float>(), static_cast<int>(logp.shape[2]), 10);
  EXPECT_EQ(text(CtcGreedySearch(frames.view(), 0).tokens), "甚至出现交易几乎停滞的情况");
  const std::vector<PrefixHypothesis> nbest = Decode(frames, 10);
  ASSERT_EQ(nbest.size(), 10U);
  EXPECT_EQ(text(nbest[0].tokens), "甚至出现交易几乎停滞的情况");
}

// Sum and maximum over all V^T alignments of each token sequence.
std::map<TokenList, std::pair<double, double>> AllSequences(const std::vector<float>& matrix, int T, int V) {
  std::map<TokenList, std::pair<double, double>> sequences;
  const int paths = static_cast<int>(std::pow(V, T) + 0.5);
  for (int path = 0; path < paths; ++path) {
    TokenList tokens;
    double logp = 0;
    int previous = 0;
    for (int t = 0, rest = path; t < T; ++t, rest /= V) {
      const int u = rest % V;
      logp += matrix[t * V + u];
      if (u != 0 && u != previous) tokens.push_back(u);
      previous = u;
    }
    const auto [it, added] = sequences.try_emplace(tokens, kMinusInf, kMinusInf);
    it->second = {testing::PlainLogAdd(it->second.first, logp), std::max(it->second.second, logp)};
  }
  return sequences;
}

TEST(CtcPrefixBeam, WideBeamSumsAllAlignments) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 60; ++trial) {
    const int V = 2 + trial % 3, T = 1 + trial % 5;
    const std::vector<float> matrix = testing::RandomMatrix(random, T, V, 0);
    const auto expected = AllSequences(matrix, T, V);
    const std::vector<PrefixHypothesis> nbest = Decode(testing::TopK(matrix, V, V), 2000);
    ASSERT_EQ(nbest.size(), expected.size()) << "V " << V << " T " << T << ": every possible sequence, no other";
    for (size_t i = 0; i < nbest.size(); ++i) {
      const auto it = expected.find(nbest[i].tokens);
      ASSERT_NE(it, expected.end());
      EXPECT_NEAR(nbest[i].score, it->second.first, 1e-9);
      EXPECT_NEAR(nbest[i].viterbi_score, it->second.second, 1e-9);
      EXPECT_EQ(nbest[i].times.size(), nbest[i].tokens.size());
      EXPECT_LE(nbest[i].score, nbest[i > 0 ? i - 1 : 0].score);
    }
  }
}

// Every sequence loses what its alignments with a token in a skipped frame are worth, and no more than all of these.
TEST(CtcPrefixBeam, BlankSkipLosesAtMostWhatItSkips) {
  std::mt19937 random(12);
  double lost = 0;
  for (int trial = 0; trial < 60; ++trial) {
    const int V = 2 + trial % 3, T = 1 + trial % 5;
    const std::vector<float> matrix = testing::RandomMatrix(random, T, V, 0);
    const OwnedFrames frames = testing::TopK(matrix, V, V);
    CtcPrefixBeam search({.beam = 2000, .token_beam = V, .blank_skip_logp = std::log(0.4F)});
    ASSERT_TRUE(search.AcceptFrames(frames.view()).ok());
    EXPECT_EQ(search.num_frames(), T);
    std::map<TokenList, double> found;
    for (const PrefixHypothesis& hypothesis : search.NBest()) found[hypothesis.tokens] = std::exp(hypothesis.score);
    double bound = 0;
    for (int t = 0; t < T; ++t) {
      const double blank = std::exp(matrix[t * V]);
      if (matrix[t * V] > std::log(0.4F)) bound += 1 - blank;
    }
    for (const auto& [tokens, scores] : AllSequences(matrix, T, V)) {
      const double missing = std::exp(scores.first) - found[tokens];
      EXPECT_GE(missing, -1e-9);
      EXPECT_LE(missing, bound + 1e-6);
      lost += missing;
    }
  }
  EXPECT_GT(lost, 1) << "nothing was skipped";
}

TEST(CtcPrefixBeam, ASkippedFrameSeparatesEqualTokens) {
  std::vector<float> matrix;
  for (const double p : {.1, .9, .95, .05, .2, .8}) matrix.push_back(std::log(static_cast<float>(p)));
  CtcPrefixBeam search({.beam = 4, .token_beam = 2, .blank_skip_logp = std::log(0.9F)});
  ASSERT_TRUE(search.AcceptFrames(testing::TopK(matrix, 2, 2).view()).ok());
  const std::vector<PrefixHypothesis> nbest = search.NBest();
  EXPECT_EQ(nbest[0].tokens, (TokenList{1, 1}));
  EXPECT_EQ(nbest[0].times, (TokenList{0, 2}));
  EXPECT_NEAR(std::exp(nbest[0].score), .9 * .95 * .8, 1e-6);
}

void ExpectSame(const std::vector<PrefixHypothesis>& nbest, const std::vector<testing::PlainHypothesis>& plain) {
  size_t possible = 0;
  while (possible < plain.size() && plain[possible].score() > kMinusInf) ++possible;
  ASSERT_EQ(nbest.size(), possible);
  for (size_t i = 0; i < possible; ++i) {
    EXPECT_EQ(nbest[i].tokens, plain[i].prefix) << i;
    EXPECT_EQ(nbest[i].times, plain[i].times()) << i;
    EXPECT_EQ(nbest[i].blank_score, plain[i].s) << i;
    EXPECT_EQ(nbest[i].token_score, plain[i].ns) << i;
    EXPECT_EQ(nbest[i].viterbi_score, plain[i].viterbi()) << i;
  }
}

// Few levels of probability: equal scores all the time, so the order of ties is what is tested. Few tokens: repeats,
// and prefixes that leave the beam and come back below descendants that stayed.
TEST(CtcPrefixBeam, EqualsThePlainSearchBitForBit) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 400; ++trial) {
    const int V = 2 + static_cast<int>(random() % 6), T = 1 + static_cast<int>(random() % 25);
    const int beam = 1 + static_cast<int>(random() % 8), levels = static_cast<int>(random() % 4);
    const std::vector<float> matrix = testing::RandomMatrix(random, T, V, levels);
    const OwnedFrames frames = testing::TopK(matrix, V, std::min(beam, V));
    SCOPED_TRACE(::testing::Message() << "trial " << trial << " V " << V << " T " << T << " beam " << beam << " levels "
                                      << levels);
    testing::PlainPrefixBeam plain(beam);
    ExpectSame(Decode(frames, beam), plain.Decode(frames.view(), 0));
    if (HasFailure()) return;
  }
}

TEST(CtcPrefixBeam, TiesGoToTheFirstTouched) {
  // One frame, all equal: blank has the lowest id, then the tokens in their order.
  const std::vector<float> matrix(4, std::log(0.25F));
  const std::vector<PrefixHypothesis> nbest = Decode(testing::TopK(matrix, 4, 4), 3);
  ASSERT_EQ(nbest.size(), 3U);
  EXPECT_EQ(nbest[0].tokens, TokenList{});
  EXPECT_EQ(nbest[1].tokens, TokenList{1});
  EXPECT_EQ(nbest[2].tokens, TokenList{2});
}

TEST(CtcPrefixBeam, BeamOfOneFollowsTheBestSymbol) {
  std::mt19937 random(3);
  const std::vector<float> matrix = testing::RandomMatrix(random, 40, 9, 0);
  const OwnedFrames frames = testing::TopK(matrix, 9, 1);
  const std::vector<PrefixHypothesis> nbest = Decode(frames, 1);
  ASSERT_EQ(nbest.size(), 1U);
  const GreedyResult greedy = CtcGreedySearch(frames.view(), 0);
  EXPECT_EQ(nbest[0].tokens, greedy.tokens);
  EXPECT_NEAR(nbest[0].score, greedy.score, 1e-9);
}

TEST(CtcPrefixBeam, NoFramesAndBlanksGiveTheEmptyPrefix) {
  const std::vector<PrefixHypothesis> nothing = Decode({{}, {}, 0, 1}, 10);
  ASSERT_EQ(nothing.size(), 1U);
  EXPECT_TRUE(nothing[0].tokens.empty());
  EXPECT_EQ(nothing[0].score, 0);

  OwnedFrames blanks{{}, {}, 500, 2};
  for (int t = 0; t < 500; ++t) {
    blanks.ids.insert(blanks.ids.end(), {0, 3});
    blanks.logp.insert(blanks.logp.end(), {0.0F, -INFINITY});
  }
  const std::vector<PrefixHypothesis> silent = Decode(blanks, 10);
  ASSERT_EQ(silent.size(), 1U) << "impossible prefixes are left out";
  EXPECT_TRUE(silent[0].tokens.empty());
  EXPECT_EQ(silent[0].score, 0);
}

TEST(CtcPrefixBeam, PiecesAndResetDoNotChangeTheResult) {
  std::mt19937 random(8);
  CtcPrefixBeam search({.beam = 6, .token_beam = 5, .blank_id = 0});
  for (int trial = 0; trial < 30; ++trial) {
    const int T = 1 + static_cast<int>(random() % 60);
    const OwnedFrames frames = testing::TopK(testing::RandomMatrix(random, T, 7, trial % 3), 7, 5);
    search.Reset();
    for (int32_t t = 0; t < T;) {
      const int32_t count = std::min<int32_t>(T - t, static_cast<int32_t>(random() % 9));
      ASSERT_TRUE(search.AcceptFrames(frames.view().Slice(t, count)).ok());
      (void)search.NBest(2);  // looking does not disturb
      t += count;
    }
    EXPECT_EQ(search.num_frames(), T);
    testing::PlainPrefixBeam plain(6);
    ExpectSame(search.NBest(), plain.Decode(frames.view(), 0));
  }
}

TEST(CtcPrefixBeam, NBestIsCut) {
  std::mt19937 random(8);
  const OwnedFrames frames = testing::TopK(testing::RandomMatrix(random, 9, 7, 0), 7, 5);
  CtcPrefixBeam search({.beam = 6, .token_beam = 5, .blank_id = 0});
  ASSERT_TRUE(search.AcceptFrames(frames.view()).ok());
  EXPECT_EQ(search.NBest(2).size(), 2U);
  EXPECT_EQ(search.NBest(100).size(), 6U);
  EXPECT_EQ(search.NBest(0).size(), 0U);
}

TEST(CtcPrefixBeam, RefusesWhatItCannotSearch) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), INFINITY};
  const int32_t id = 1;
  for (const float& value : bad) {
    CtcPrefixBeam search({.beam = 2, .token_beam = 1, .blank_id = 0});
    EXPECT_EQ(search.AcceptFrames({&value, &id, 1, 1}).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(search.num_frames(), 0);
  }
  const float good = 0;
  const int32_t negative = -1;
  EXPECT_FALSE(CtcPrefixBeam({.beam = 2, .token_beam = 1}).AcceptFrames({&good, &negative, 1, 1}).ok());
  EXPECT_FALSE(CtcPrefixBeam({.beam = 2, .token_beam = 2}).AcceptFrames({&good, &id, 1, 1}).ok()) << "k too small";
  EXPECT_FALSE(CtcPrefixBeam({.beam = 0, .token_beam = 1}).AcceptFrames({&good, &id, 1, 1}).ok());
  EXPECT_TRUE(CtcPrefixBeam({.beam = 2, .token_beam = 1}).AcceptFrames({&good, &id, 1, 1}).ok());
}

}  // namespace
}  // namespace ting
