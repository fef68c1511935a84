// tests/models/bf16_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// What --precision bf16 makes of a model that is loaded for a GPU, which need not be there for it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/u2/u2_model.h"
#include "tests/support/paths.h"

namespace ting {
namespace {

// What is told when the model is loaded for a GPU with bf16, and what that is there.
std::string NoteForGpu(const std::string& path, Precision* precision) {
  RecognizerOptions options;
  options.device = "cuda";
  options.precision = Precision::kBF16;
  std::string told;
  options.note = [&](const std::string& note) { told += note; };
  const auto model = LoadU2ModelFor(options, path);
  EXPECT_TRUE(model.ok()) << model.status().ToString();
  if (model.ok()) *precision = model->info.precision;
  return told;
}

TEST(Bf16, OnAGpuIsF16WhereTheModelFitsIt) {
  Precision precision = Precision::kF32;
  const std::string note = NoteForGpu(testing::SourcePath("models/tiny"), &precision);
  EXPECT_EQ(precision, Precision::kF16);
  EXPECT_EQ(note.find("bf16 becomes f16, "), 0U) << note;
}

TEST(Bf16, AnInt16FileIsForGpusToo) {
  const std::string path = ::testing::TempDir() + "bf16_test.ting";
  auto model = LoadU2Model(testing::SourcePath("models/tiny"), Precision::kInt16);
  ASSERT_TRUE(model.ok() && SaveU2Model(*model, path).ok());
  RecognizerOptions options;
  options.device = "cuda";
  const auto loaded = LoadU2ModelFor(options, path);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded->info.precision, Precision::kF16);
}

TEST(Bf16, OnAGpuIsBf16x1WhereAnOperandMayBeTooLarge) {
  const std::string path = ::testing::TempDir() + "bf16_test_large.ting";
  auto model = LoadU2Model(testing::SourcePath("models/tiny"), Precision::kF32);
  ASSERT_TRUE(model.ok());
  const Graph& encoder = model->module.graphs.at("encoder");
  for (const Node& node : encoder.nodes) {
    if (encoder.NodeName(node) != "b1.ffn") continue;
    const Weight& gamma = *model->module.weights.Find(node.weights.at("norm.gamma"));
    const std::vector<float> large(gamma.view.shape[0], 3e4F);
    ASSERT_TRUE(model->module.weights.PutF32(node.weights.at("norm.gamma"), gamma.view.shape, large).ok());
  }
  ASSERT_TRUE(SaveU2Model(*model, path).ok());
  Precision precision = Precision::kF32;
  const std::string note = NoteForGpu(path, &precision);
  EXPECT_EQ(precision, Precision::kBF16x1);
  EXPECT_NE(note.find("encoder.b1.ffn"), std::string::npos) << note;
}

}  // namespace
}  // namespace ting
