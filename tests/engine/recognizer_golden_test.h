// tests/engine/recognizer_golden_test.h
// SPDX-License-Identifier: Apache-2.0
//
// The fixture of the tests from a sound file to n-best lists, against PyTorch WeNet's goldens in f32. The tests are
// the same on every device; each test program names its own devices.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/engine/golden_set.h"

namespace ting::testing {

struct GoldenCase {
  const char* model;  // "shipped", or a model of TING_SHARED
  const char* device;
  std::string (*missing)() = nullptr;  // why this machine lacks the device; empty: it does not
};

inline void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.model << " on " << c.device; }
inline std::string NameOf(const ::testing::TestParamInfo<GoldenCase>& info) {
  return std::string(info.param.model) + "_" + info.param.device;
}

inline std::vector<int32_t> Ids(const Hypothesis& hypothesis) {
  std::vector<int32_t> ids;
  for (const TokenSpan& token : hypothesis.tokens) ids.push_back(token.id);
  return ids;
}

inline std::vector<int32_t> Frames(const Hypothesis& hypothesis) {
  std::vector<int32_t> frames;
  for (const TokenSpan& token : hypothesis.tokens) frames.push_back(token.peak_frame);
  return frames;
}

class RecognizerGoldenTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    const bool shipped = std::string(GetParam().model) == "shipped";
    if (!shipped) TING_REQUIRE_SHARED();
    const std::string missing = GetParam().missing == nullptr ? "" : GetParam().missing();
    if (!missing.empty()) GTEST_SKIP() << missing;
    set_ = shipped ? testing::ShippedGoldens() : testing::SharedGoldens(GetParam().model);
    ASSERT_EQ(set_.audio.size(), set_.recordings.size());
    RecognizerOptions options;
    options.device = GetParam().device;
    options.batch_invariant = true;
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

}  // namespace ting::testing
