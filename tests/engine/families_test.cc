// tests/engine/families_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Families without a trained model at hand: random checkpoints of each are imported, optimised, and must give the same
// log-probabilities and n-best lists on the cpu backend as the unoptimised arithmetic of ref; and the same after a
// round trip through an engine file.
#include <gtest/gtest.h>

#include <cmath>

#include "models/u2/operand_bounds.h"
#include "models/u2/u2_model.h"
#include "tests/engine/family_models.h"

namespace ting {
namespace {

class FamiliesTest : public ::testing::TestWithParam<testing::Family> {};

TEST_P(FamiliesTest, CpuEqualsRefAndTheEngineFileItsCheckpoint) {
  const std::string directory = testing::MakeFamilyModel(GetParam());
  RecognizerOptions ref_options;
  ref_options.device = "ref";
  auto ref = Recognizer::Load(directory, ref_options);
  auto cpu = Recognizer::Load(directory, {});
  ASSERT_TRUE(ref.ok() && cpu.ok()) << ref.status().ToString() << cpu.status().ToString();
  ASSERT_TRUE(BuildEngine(directory, directory + "/model.engine", Precision::kF32).ok());
  auto engine = Recognizer::Load(directory + "/model.engine", {});
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  const std::vector<Audio> batch = testing::FamilyAudio();
  for (const Audio& audio : batch) {
    const auto features = (*ref)->Features(audio);
    ASSERT_TRUE(features.ok()) << features.status().ToString();
    const auto expected = (*ref)->CtcLogProbs(*features, {});
    const auto actual = (*cpu)->CtcLogProbs(*features, {});
    ASSERT_TRUE(expected.ok() && actual.ok());
    ASSERT_EQ(expected->size(), actual->size());
    double spread = 0;
    for (size_t i = 0; i < expected->size(); ++i) {
      EXPECT_NEAR((*actual)[i], (*expected)[i], 1e-3);
      spread = std::max(spread, std::abs(static_cast<double>((*expected)[i]) - (*expected)[0]));
    }
    EXPECT_GT(spread, 0.1);  // a model that says the same everywhere proves nothing
  }
  for (const DecodeMode mode :
       {DecodeMode::kGreedy, DecodeMode::kPrefixBeam, DecodeMode::kAttention, DecodeMode::kRescoring}) {
    DecodeOptions options;
    options.mode = mode;
    const auto expected = (*ref)->Recognize(batch, options);
    const auto actual = (*cpu)->Recognize(batch, options);
    const auto from_engine = (*engine)->Recognize(batch, options);
    for (size_t i = 0; i < batch.size(); ++i) {
      ASSERT_TRUE(expected[i].status.ok() && actual[i].status.ok()) << actual[i].status.ToString();
      EXPECT_NEAR(actual[i].nbest[0].score, expected[i].nbest[0].score, 1e-2) << "mode " << static_cast<int>(mode);
      EXPECT_EQ(from_engine[i].nbest[0].score, actual[i].nbest[0].score);
      EXPECT_EQ(from_engine[i].nbest[0].text, actual[i].nbest[0].text);
    }
  }
}

TEST_P(FamiliesTest, OperandsAreBoundedByTheWeights) {
  const std::string directory = testing::MakeFamilyModel(GetParam());
  const auto model = LoadU2Model(directory, Precision::kF32);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  const auto bound = BoundOperands(model->module);
  ASSERT_TRUE(bound.ok()) << bound.status().ToString();
  EXPECT_GT(bound->most, 1) << bound->place;
  EXPECT_LT(bound->most, 1e9) << bound->place;
}

INSTANTIATE_TEST_SUITE_P(All, FamiliesTest, ::testing::ValuesIn(testing::OddFamilies()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ting
