// tests/engine/families_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Families without a trained model at hand: random checkpoints of each are imported, optimised, and must give the same
// log-probabilities and n-best lists on the cpu backend as the unoptimised arithmetic of ref; and the same after a
// round trip through an engine file.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "importers/checkpoint/expected_tensors.h"
#include "importers/checkpoint/model_config.h"
#include "tests/importers/crafted_checkpoint.h"
#include "ting/recognizer.h"

namespace ting {
namespace {

struct Family {
  const char* name;
  const char* yaml;
};

void PrintTo(const Family& family, std::ostream* out) { *out << family.name; }

constexpr Family kFamilies[] = {
    {"transformer_conv2d6", R"(
encoder: transformer
encoder_conf: {output_size: 48, attention_heads: 8, linear_units: 64, num_blocks: 2, input_layer: conv2d6,
               pos_enc_layer_type: abs_pos, selfattention_layer_type: selfattn}
decoder: transformer
decoder_conf: {attention_heads: 8, linear_units: 40, num_blocks: 2}
input_dim: 80
output_dim: 31
)"},
    {"conformer_conv2d8_wide_kernel", R"(
encoder: conformer
encoder_conf: {output_size: 40, attention_heads: 4, linear_units: 72, num_blocks: 2, input_layer: conv2d8,
               cnn_module_kernel: 31, activation_type: swish, pos_enc_layer_type: rel_pos, selfattention_layer_type: rel_selfattn}
decoder: transformer
decoder_conf: {attention_heads: 4, linear_units: 40, num_blocks: 1}
input_dim: 80
output_dim: 31
)"},
    {"unified_layer_norm_kernel_15", R"(
encoder: conformer
encoder_conf: {output_size: 64, attention_heads: 4, linear_units: 96, num_blocks: 2, cnn_module_kernel: 15, causal: true,
               cnn_module_norm: layer_norm, use_dynamic_chunk: true, activation_type: swish}
decoder: transformer
decoder_conf: {attention_heads: 4, linear_units: 40, num_blocks: 2}
input_dim: 80
output_dim: 31
)"},
    {"bitransformer_without_macaron", R"(
encoder: conformer
encoder_conf: {output_size: 36, attention_heads: 4, linear_units: 50, num_blocks: 1, macaron_style: false,
               cnn_module_kernel: 8, causal: true, cnn_module_norm: batch_norm, use_dynamic_chunk: true, input_layer: conv2d2}
decoder: bitransformer
decoder_conf: {attention_heads: 4, linear_units: 40, num_blocks: 1, r_num_blocks: 2}
input_dim: 80
output_dim: 31
)"},
};

std::string RandomTensor(const std::string& name, const std::vector<int64_t>& shape, std::mt19937& random) {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  const bool scale =
      name.ends_with("running_var") || name.ends_with("istd") || (shape.size() == 1 && name.ends_with(".weight"));
  const double spread =
      shape.size() > 1 ? std::sqrt(3.0 * static_cast<double>(shape[0]) / static_cast<double>(elements)) : 0.2;
  std::uniform_real_distribution<float> uniform(scale ? 0.6F : static_cast<float>(-spread),
                                                scale ? 1.4F : static_cast<float>(spread));
  std::string bytes(elements * sizeof(float), '\0');
  for (int64_t i = 0; i < elements; ++i) {
    const float value = uniform(random);
    std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
  }
  return bytes;
}

std::string MakeModel(const Family& family) {
  const std::string directory = testing::MakeDirectory(std::string("family_") + family.name);
  const auto config = ParseTrainYaml(family.yaml);
  EXPECT_TRUE(config.ok()) << config.status().ToString();
  const auto expected = ExpectedTensors(*config);
  EXPECT_TRUE(expected.ok()) << expected.status().ToString();
  std::mt19937 random(20);
  std::vector<testing::CraftedTensor> tensors;
  std::map<std::string, std::string> storages;
  for (const ExpectedTensor& tensor : *expected) {
    const std::string key = std::to_string(tensors.size());
    storages[key] = RandomTensor(tensor.name, tensor.shape, random);
    tensors.push_back({.name = tensor.name,
                       .key = key,
                       .storage_elements = static_cast<int64_t>(storages[key].size() / sizeof(float)),
                       .shape = tensor.shape,
                       .stride = testing::RowMajor(tensor.shape)});
  }
  testing::WriteFile(directory + "/final.pt",
                     testing::WriteCheckpoint(testing::PickleProgram(testing::PickleStateDict(tensors)), storages));
  testing::WriteFile(directory + "/train.yaml", family.yaml);
  std::string units = "<blank> 0\n<unk> 1\n";  // pieces, as SentencePiece makes them
  for (int i = 2; i < 30; ++i) units += (i % 3 == 0 ? "▁p" : "s") + std::to_string(i) + " " + std::to_string(i) + "\n";
  testing::WriteFile(directory + "/units.txt", units + "<sos/eos> 30\n");
  return directory;
}

// Tones and noise of several lengths: random weights make "text" of anything.
std::vector<Audio> SomeAudio() {
  std::mt19937 random(3);
  std::normal_distribution<float> noise(0, 300);
  std::vector<Audio> batch;
  for (const int samples : {16000, 7000, 24000}) {
    Audio audio;
    for (int i = 0; i < samples; ++i) {
      const double tone = 3000 * std::sin(i * (0.05 + 0.04 * std::sin(i * 0.0004)));
      audio.samples.push_back(std::round(static_cast<float>(tone) + noise(random)));
    }
    batch.push_back(std::move(audio));
  }
  return batch;
}

class FamiliesTest : public ::testing::TestWithParam<Family> {};

TEST_P(FamiliesTest, CpuEqualsRefAndTheEngineFileItsCheckpoint) {
  const std::string directory = MakeModel(GetParam());
  RecognizerOptions ref_options;
  ref_options.device = "ref";
  auto ref = Recognizer::Load(directory, ref_options);
  auto cpu = Recognizer::Load(directory, {});
  ASSERT_TRUE(ref.ok() && cpu.ok()) << ref.status().ToString() << cpu.status().ToString();
  ASSERT_TRUE(BuildEngine(directory, directory + "/model.engine", Precision::kF32).ok());
  auto engine = Recognizer::Load(directory + "/model.engine", {});
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  const std::vector<Audio> batch = SomeAudio();
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

INSTANTIATE_TEST_SUITE_P(All, FamiliesTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ting
