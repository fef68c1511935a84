// tests/engine/recognizer_golden_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// From a sound file to n-best lists, against PyTorch WeNet: tokens, order, times and scores of every mode, on each
// device, one utterance at a time and all in one batch.
#include "tests/engine/recognizer_golden_test.h"

#include <fmt/format.h>

namespace ting::testing {

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
      // No row's bits depend on the other rows, on any device.
      EXPECT_EQ(alone[0].nbest[0].score, together[i].nbest[0].score) << set_.recordings[i];
    }
  }
}

}  // namespace ting::testing
