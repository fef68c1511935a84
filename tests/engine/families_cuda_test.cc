// tests/engine/families_cuda_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Whole models of every family on a GPU, in all precisions and modes, against the cpu backend in f32.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/engine/family_models.h"
#include "tests/support/gpu_test.h"

namespace ting {
namespace {

struct Storage {
  Precision precision;
  double log_prob;  // by how much a log-probability may differ
};
// Random weights: errors of f16 and bf16x1 add up over two blocks without a margin to lose. tf32 keeps as many bits as
// f16.
constexpr Storage kStorages[] = {
    {Precision::kF32, 1e-3}, {Precision::kTF32, 0.05}, {Precision::kF16, 0.05}, {Precision::kBF16x1, 0.4}};
constexpr DecodeMode kModes[] = {DecodeMode::kGreedy, DecodeMode::kPrefixBeam, DecodeMode::kAttention,
                                 DecodeMode::kRescoring};

std::unique_ptr<Recognizer> LoadOn(const std::string& device, const std::string& directory, Precision precision) {
  RecognizerOptions options;
  options.device = device;
  options.precision = precision;
  auto recognizer = Recognizer::Load(directory, options);
  EXPECT_TRUE(recognizer.ok()) << recognizer.status().ToString();
  return recognizer.ok() ? std::move(recognizer).value() : nullptr;
}

double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN, too
  }
  return largest;
}

class FamiliesCudaTest : public ::testing::TestWithParam<testing::Family> {
 protected:
  void SetUp() override {
    TING_SKIP_WITHOUT_GPU();
    cpu_ = LoadOn("cpu", directory_, Precision::kF32);
    ASSERT_NE(cpu_, nullptr);
  }

  void ExpectSameLogProbs(Recognizer& gpu, double tolerance) {
    for (const Audio& audio : audio_) {
      const auto features = cpu_->Features(audio);
      ASSERT_TRUE(features.ok());
      const auto expected = cpu_->CtcLogProbs(*features, {});
      const auto actual = gpu.CtcLogProbs(*features, {});
      ASSERT_TRUE(expected.ok() && actual.ok()) << actual.status().ToString();
      EXPECT_LE(LargestDifference(*actual, *expected), tolerance);
    }
  }
  void ExpectSameTexts(Recognizer& gpu, DecodeMode mode) {
    DecodeOptions options;
    options.mode = mode;
    const auto expected = cpu_->Recognize(audio_, options);
    const auto actual = gpu.Recognize(audio_, options);
    for (size_t i = 0; i < audio_.size(); ++i) {
      ASSERT_TRUE(expected[i].status.ok() && actual[i].status.ok()) << actual[i].status.ToString();
      EXPECT_EQ(actual[i].nbest[0].text, expected[i].nbest[0].text) << "mode " << static_cast<int>(mode);
      EXPECT_NEAR(actual[i].nbest[0].score, expected[i].nbest[0].score, 1e-2) << "mode " << static_cast<int>(mode);
    }
  }

  const std::string directory_ = testing::MakeFamilyModel(GetParam());
  const std::vector<Audio> audio_ = testing::FamilyAudio();
  std::unique_ptr<Recognizer> cpu_;
};

TEST_P(FamiliesCudaTest, GpuEqualsCpu) {
  for (const Storage& storage : kStorages) {
    SCOPED_TRACE(static_cast<int>(storage.precision));
    const auto gpu = LoadOn("cuda", directory_, storage.precision);
    ASSERT_NE(gpu, nullptr);
    ExpectSameLogProbs(*gpu, storage.log_prob);
    for (const DecodeMode mode : kModes) {
      if (storage.precision == Precision::kF32) {
        ExpectSameTexts(*gpu, mode);
        continue;
      }
      DecodeOptions options;  // they run; what they say is noise's in part
      options.mode = mode;
      for (const auto& result : gpu->Recognize(audio_, options)) EXPECT_TRUE(result.status.ok());
    }
  }
}

const auto kName = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Odd, FamiliesCudaTest, ::testing::ValuesIn(testing::OddFamilies()), kName);
INSTANTIATE_TEST_SUITE_P(Wide, FamiliesCudaTest, ::testing::ValuesIn(testing::WideFamilies()), kName);

}  // namespace
}  // namespace ting
