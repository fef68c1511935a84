// tests/importers/real_models_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// LoadCheckpoint on trained models: the small one of the repository, and the three large ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>

#include "base/mmap_file.h"
#include "importers/checkpoint/checkpoint.h"
#include "importers/checkpoint/cmvn.h"
#include "importers/checkpoint/expected_tensors.h"
#include "tests/support/paths.h"

namespace ting {
namespace {

struct Facts {
  std::string name, family;
  int64_t num_parameters;
  int64_t width, blocks, kernel, left, right;
  bool causal, dynamic_chunk, batch_norm;
  uint32_t crc32;
};

// Parameter counts and checksums were taken with Python's own unpickler and NumPy: the CRC-32 of all floating-point
// tensors, widened to f32, in the order of the file.
const Facts kAishell{"aishell", "conformer (full context)", 46197266, 256, 12, 15, 6, 0, false, false, true,
                     0x3632206d};
const Facts kU2pp{"u2pp",    "U2++ conformer (bidirectional decoder)", 48347803, 256, 12, 8, 3, 3, true, true, false,
                  0xcf616ff2};
const Facts kTiny{"tiny",    "U2++ conformer (bidirectional decoder)", 8674587, 144, 8, 8, 2, 1, true, true, true,
                  0xd9bbcc8f};

uint32_t Crc32(const std::vector<float>& values, uint32_t crc) {
  static const auto kTable = [] {
    std::array<uint32_t, 256> table;
    for (uint32_t i = 0; i < 256; ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) table[i] = (table[i] >> 1) ^ ((table[i] & 1) != 0 ? 0xedb88320U : 0);
    }
    return table;
  }();
  crc = ~crc;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (size_t i = 0; i < values.size() * sizeof(float); ++i) crc = (crc >> 8) ^ kTable[(crc ^ bytes[i]) & 0xff];
  return ~crc;
}

bool IsInteger(const TensorEntry& entry) { return entry.dtype == DType::kS64; }

void ExpectModel(const Facts& facts, const std::string& directory) {
  const auto loaded = LoadCheckpoint(directory);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  const ModelConfig& config = loaded->config;
  EXPECT_EQ(FamilyName(config), facts.family);
  EXPECT_EQ(loaded->weights.num_parameters(), facts.num_parameters);
  EXPECT_EQ(config.encoder.output_size, facts.width);
  EXPECT_EQ(config.encoder.num_blocks, facts.blocks);
  EXPECT_EQ(config.encoder.cnn_module_kernel, facts.kernel);
  EXPECT_EQ(config.encoder.causal, facts.causal);
  EXPECT_EQ(config.encoder.use_dynamic_chunk, facts.dynamic_chunk);
  EXPECT_EQ(config.encoder.cnn_module_norm == ConvNormKind::kBatchNorm, facts.batch_norm);
  EXPECT_EQ(config.decoder.num_blocks, facts.left);
  EXPECT_EQ(config.decoder.r_num_blocks, facts.right);
  EXPECT_EQ(config.vocab_size, 4233);
  EXPECT_EQ(config.sos_id, 4232);
  EXPECT_EQ(config.eos_id, 4232);
  EXPECT_EQ(loaded->tokens.size(), 4233);
  EXPECT_EQ(loaded->tokens.text(0), "<blank>");
  EXPECT_EQ(loaded->tokens.Find("<sos/eos>"), 4232);
  EXPECT_EQ(loaded->tokens.kind(), "char");
  EXPECT_EQ(loaded->cmvn_source, CmvnSource::kCheckpoint);

  // The CMVN file beside it holds the same numbers by another way (sums, f64), so both must agree.
  const auto text = ReadTextFile(directory + "/global_cmvn");
  ASSERT_TRUE(text.ok());
  const auto cmvn = ParseCmvn(*text);
  ASSERT_TRUE(cmvn.ok()) << cmvn.status().ToString();
  ASSERT_EQ(loaded->cmvn_mean.size(), 80U);
  for (size_t i = 0; i < 80; ++i) {
    EXPECT_NEAR(loaded->cmvn_mean[i], cmvn->mean[i], 1e-6 * std::abs(cmvn->mean[i])) << i;
    EXPECT_NEAR(loaded->cmvn_istd[i], cmvn->istd[i], 1e-6 * cmvn->istd[i]) << i;
  }

  // Every weight that the model needs can be read and is finite and not all zeros; all together are the right bytes.
  const auto expected = ExpectedTensors(config);
  ASSERT_TRUE(expected.ok());
  for (const ExpectedTensor& tensor : *expected) {
    const auto values = loaded->weights.ReadF32(tensor.name);
    ASSERT_TRUE(values.ok()) << values.status().ToString();
    double sum = 0;
    for (const float value : *values) sum += std::abs(value);
    EXPECT_TRUE(std::isfinite(sum) && sum > 0) << tensor.name;
  }
  uint32_t crc = 0;
  for (const std::string& name : loaded->weights.names()) {
    if (IsInteger(*loaded->weights.Find(name))) continue;
    crc = Crc32(*loaded->weights.ReadF32(name), crc);
  }
  EXPECT_EQ(crc, facts.crc32);
}

TEST(RealModels, Aishell) {
  TING_REQUIRE_SHARED();
  ExpectModel(kAishell, testing::SharedPath("models/aishell"));
}

TEST(RealModels, U2pp) {
  TING_REQUIRE_SHARED();
  ExpectModel(kU2pp, testing::SharedPath("models/u2pp"));
}

TEST(RealModels, Tiny) {
  TING_REQUIRE_SHARED();
  ExpectModel(kTiny, testing::SharedPath("models/tiny"));
}

// The same model as the repository ships it.
TEST(RealModels, Shipped) {
  const std::string directory = testing::SourcePath("models/tiny");
  if (!std::filesystem::exists(directory + "/final.pt")) GTEST_SKIP() << "models/tiny is not in this checkout";
  ExpectModel(kTiny, directory);
}

// A directory whose parts belong to different models is refused with the tensor's name and both shapes.
TEST(RealModels, RefusesForeignConfiguration) {
  TING_REQUIRE_SHARED();
  const std::string directory = ::testing::TempDir() + "/ting_mixed_model";
  std::filesystem::create_directories(directory);
  const auto link = [&](const std::string& from, const std::string& name) {
    std::filesystem::remove(directory + "/" + name);
    std::filesystem::create_symlink(std::filesystem::absolute(testing::SharedPath("models/" + from + "/" + name)),
                                    directory + "/" + name);
  };
  link("tiny", "final.pt");
  link("u2pp", "train.yaml");
  link("u2pp", "units.txt");
  const auto loaded = LoadCheckpoint(directory);
  ASSERT_FALSE(loaded.ok());
  EXPECT_THAT(loaded.status().message(), ::testing::HasSubstr("encoder.embed.conv.0.weight is [144, 1, 3, 3]"));
  EXPECT_THAT(loaded.status().message(), ::testing::HasSubstr("[256, 1, 3, 3]"));
  link("aishell", "final.pt");
  link("aishell", "train.yaml");
  EXPECT_TRUE(LoadCheckpoint(directory).ok());
  link("u2pp", "train.yaml");
  EXPECT_FALSE(LoadCheckpoint(directory).ok());
}

}  // namespace
}  // namespace ting
