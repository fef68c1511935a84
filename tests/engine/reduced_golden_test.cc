// tests/engine/reduced_golden_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/engine/reduced_golden_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ting::testing {

void ReducedGoldenTest::SetUp() {
  const std::string model = GetParam().model;
  const bool shipped = model == "shipped";
  if (!shipped) TING_REQUIRE_SHARED();
  const std::string missing = GetParam().missing == nullptr ? "" : GetParam().missing();
  if (!missing.empty()) GTEST_SKIP() << missing;
  set_ = shipped ? ShippedGoldens() : SharedGoldens(model);
  golden_dir_ = shipped ? SourcePath("tests/golden/shipped") : SharedPath("golden/" + model);
  features_dir_ = model == "aishell" ? SharedPath("golden/u2pp") : golden_dir_;  // stored once for both
  RecognizerOptions options;
  options.device = GetParam().device;
  options.precision = GetParam().precision;
  auto recognizer = Recognizer::Load(set_.model_dir, options);
  ASSERT_TRUE(recognizer.ok()) << recognizer.status().ToString();
  recognizer_ = std::move(recognizer).value();
}

// The ten best of each frame: what a search sees. A spike of the CTC may move to the frame beside, which makes errors
// of several units there; so the mean counts, and how many are large, not the largest.
TEST_P(ReducedGoldenTest, TheTenBestLogProbabilities) {
  const Npz ctc = Npz::Load(golden_dir_ + "/ctc.npz"), features = Npz::Load(features_dir_ + "/features.npz");
  double sum = 0;
  int64_t count = 0, large = 0;
  for (const std::string& recording : set_.recordings) {
    if (!features.Has(recording + ".fbank") || !ctc.Has(recording + ".top10_ids")) continue;
    const auto logp = recognizer_->CtcLogProbs(features[recording + ".fbank"].As<float>(), {});
    ASSERT_TRUE(logp.ok()) << logp.status().ToString();
    const auto ids = ctc[recording + ".top10_ids"].As<int32_t>();
    const auto expected = ctc[recording + ".top10_logp"].As<float>();
    const size_t vocabulary = recognizer_->info().vocab_size;
    ASSERT_EQ(logp->size(), ids.size() / 10 * vocabulary) << recording;
    for (size_t i = 0; i < ids.size(); ++i) {
      const double error = std::abs(static_cast<double>((*logp)[i / 10 * vocabulary + ids[i]]) - expected[i]);
      sum += error;
      large += error < 0.5 ? 0 : 1;  // NaN, too
    }
    count += static_cast<int64_t>(ids.size());
  }
  ASSERT_GT(count, 0) << "no recording has features and log-probabilities";
  const double mean = sum / static_cast<double>(count), share = static_cast<double>(large) / static_cast<double>(count);
  std::puts(fmt::format("log-probabilities: mean error {:.5f}, {:.5f} of them large", mean, share).c_str());
  EXPECT_LE(mean, GetParam().mean_error);
  EXPECT_LE(share, GetParam().large_errors);
}

TEST_P(ReducedGoldenTest, RescoredTexts) {
  const auto results = recognizer_->Recognize(set_.audio, {});
  int different = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i].status.ok()) << results[i].status.ToString();
    std::vector<int32_t> ids;
    for (const TokenSpan& token : results[i].nbest[0].tokens) ids.push_back(token.id);
    const std::string name =
        set_.recordings[i] + fmt::format(".rescore_c{:.1f}_r{:.1f}", set_.ctc_weight, set_.reverse_weight);
    different += ids != set_.search[name + ".tokens"].As<int32_t>() ? 1 : 0;
  }
  std::puts(fmt::format("texts: {} of {} differ", different, results.size()).c_str());
  EXPECT_LE(different, GetParam().different_texts);
}

}  // namespace ting::testing
