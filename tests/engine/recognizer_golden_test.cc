// tests/engine/recognizer_golden_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// From a sound file to n-best lists, against PyTorch WeNet: tokens, order, times and scores of every mode, on each
// backend, one utterance at a time and all in one batch.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/engine/golden_set.h"

namespace ting {
namespace {

using testing::GoldenSet;

struct Case {
  const char* model;  // "shipped", or a model of TING_SHARED
  const char* backend;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.model << " on " << c.backend; }

std::vector<int32_t> Ids(const Hypothesis& hypothesis) {
  std::vector<int32_t> ids;
  for (const TokenSpan& token : hypothesis.tokens) ids.push_back(token.id);
  return ids;
}

std::vector<int32_t> Frames(const Hypothesis& hypothesis) {
  std::vector<int32_t> frames;
  for (const TokenSpan& token : hypothesis.tokens) frames.push_back(token.peak_frame);
  return frames;
}

class RecognizerGoldenTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const bool shipped = std::string(GetParam().model) == "shipped";
    if (!shipped) TING_REQUIRE_SHARED();
    set_ = shipped ? testing::ShippedGoldens() : testing::SharedGoldens(GetParam().model);
    ASSERT_EQ(set_.audio.size(), set_.recordings.size());
    RecognizerOptions options;
    options.device = GetParam().backend;
    auto recognizer = Recognizer::Load(set_.model_dir, options);
    ASSERT_TRUE(recognizer.ok()) << recognizer.status().ToString();
    recognizer_ = std::move(recognizer).value();
  }

  std::vector<RecognitionResult> Run(DecodeMode mode) {
    DecodeOptions options;
    options.mode = mode;
    options.nbest = options.beam;
    return recognizer_->Recognize(set_.audio, options);
  }

  // PyTorch's goldens start from torchaudio's f32 features; ours are computed in f64 and differ from those by up to
  // 1e-3 in quiet frames, which moves a score that sums a hundred frames by a few 1e-3. From equal features the chain
  // is tighter: models_test (log-probabilities) and decoders_test (scores from log-probabilities).
  static constexpr double kScoreTolerance = 5e-3;

  // The tokens of `actual` are those of the golden at the same place, unless two scores there are nearly equal.
  void ExpectSameOrder(const std::string& what, const std::vector<Hypothesis>& actual,
                       const std::vector<std::vector<int32_t>>& tokens, const std::vector<double>& scores) {
    ASSERT_EQ(actual.size(), tokens.size()) << what;
    for (size_t n = 0; n < tokens.size(); ++n) {
      EXPECT_NEAR(actual[n].score, scores[n], kScoreTolerance) << what << " rank " << n;
      if (Ids(actual[n]) == tokens[n]) continue;
      const double gap =
          std::min(n > 0 ? scores[n - 1] - scores[n] : 1e30, n + 1 < scores.size() ? scores[n] - scores[n + 1] : 1e30);
      const bool last = n + 1 == tokens.size();  // what was cut off below it is not in the golden
      EXPECT_TRUE(gap < kScoreTolerance || last)
          << what << " rank " << n << ": other tokens, and no near-tie (gap " << gap << ")";
    }
  }

  GoldenSet set_;
  std::unique_ptr<Recognizer> recognizer_;
};

TEST_P(RecognizerGoldenTest, Greedy) {
  const auto results = Run(DecodeMode::kGreedy);
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i].status.ok()) << results[i].status.ToString();
    EXPECT_EQ(Ids(results[i].nbest[0]), set_.search[set_.recordings[i] + ".greedy"].As<int32_t>())
        << set_.recordings[i];
  }
}

TEST_P(RecognizerGoldenTest, PrefixBeam) {
  const auto results = Run(DecodeMode::kPrefixBeam);
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i].status.ok()) << results[i].status.ToString();
    const std::string name = set_.recordings[i] + ".prefix";
    ExpectSameOrder(name, results[i].nbest, set_.Hypotheses(name + ".tokens"),
                    set_.search[name + ".scores"].As<double>());
    EXPECT_EQ(Frames(results[i].nbest[0]), set_.Hypotheses(name + ".times")[0]) << name;
  }
}

TEST_P(RecognizerGoldenTest, Rescoring) {
  const auto results = Run(DecodeMode::kRescoring);
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i].status.ok()) << results[i].status.ToString();
    const std::string prefix = set_.recordings[i] + ".prefix";
    const std::string name =
        set_.recordings[i] + fmt::format(".rescore_c{:.1f}_r{:.1f}", set_.ctc_weight, set_.reverse_weight);
    // The golden's scores are in the order of the prefix search.
    const auto tokens = set_.Hypotheses(prefix + ".tokens");
    const auto scores = set_.search[name + ".scores"].As<double>();
    std::vector<size_t> order(scores.size());
    for (size_t n = 0; n < order.size(); ++n) order[n] = n;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    std::vector<std::vector<int32_t>> sorted_tokens;
    std::vector<double> sorted_scores;
    for (const size_t n : order) sorted_tokens.push_back(tokens[n]), sorted_scores.push_back(scores[n]);
    ExpectSameOrder(name, results[i].nbest, sorted_tokens, sorted_scores);
    const Hypothesis& best = results[i].nbest[0];
    EXPECT_EQ(Ids(best), set_.search[name + ".tokens"].As<int32_t>()) << name;
    EXPECT_EQ(Frames(best), set_.search[name + ".times"].As<int32_t>()) << name;
    EXPECT_NEAR(best.confidence, set_.search[name + ".confidence"].As<double>()[0], 1e-3);
    const auto confidences = set_.search[name + ".tokens_confidence"].As<double>();
    ASSERT_EQ(best.tokens.size(), confidences.size());
    for (size_t u = 0; u < confidences.size(); ++u)
      EXPECT_NEAR(best.tokens[u].confidence, confidences[u], 1e-3) << name;
  }
}

TEST_P(RecognizerGoldenTest, Attention) {
  const auto results = Run(DecodeMode::kAttention);
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i].status.ok()) << results[i].status.ToString();
    const std::string name = set_.recordings[i] + ".attention";
    EXPECT_EQ(Ids(results[i].nbest[0]), set_.search[name + ".tokens"].As<int32_t>()) << name;
    const auto scores = set_.search[name + ".beam_scores"].As<double>();
    EXPECT_NEAR(results[i].nbest[0].score, *std::max_element(scores.begin(), scores.end()), kScoreTolerance) << name;
  }
}

TEST_P(RecognizerGoldenTest, BatchOfOneEqualsTheBatch) {
  set_.audio.resize(std::min<size_t>(set_.audio.size(), 8));
  for (const DecodeMode mode :
       {DecodeMode::kGreedy, DecodeMode::kPrefixBeam, DecodeMode::kRescoring, DecodeMode::kAttention}) {
    DecodeOptions options;
    options.mode = mode;
    const auto together = recognizer_->Recognize(set_.audio, options);
    for (size_t i = 0; i < set_.audio.size(); ++i) {
      const auto alone = recognizer_->Recognize({&set_.audio[i], 1}, options);
      EXPECT_EQ(alone[0].nbest[0].text, together[i].nbest[0].text) << set_.recordings[i];
      // No row's bits depend on the other rows, on either backend.
      EXPECT_EQ(alone[0].nbest[0].score, together[i].nbest[0].score) << set_.recordings[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RecognizerGoldenTest,
                         ::testing::Values(Case{"shipped", "ref"}, Case{"shipped", "cpu"}, Case{"tiny", "cpu"},
                                           Case{"aishell", "cpu"}, Case{"u2pp", "cpu"}),
                         [](const auto& info) { return std::string(info.param.model) + "_" + info.param.backend; });

}  // namespace
}  // namespace ting
