// tests/engine/family_models.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/engine/family_models.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "importers/checkpoint/expected_tensors.h"
#include "importers/checkpoint/model_config.h"
#include "tests/importers/crafted_checkpoint.h"

namespace ting::testing {
namespace {

constexpr Family kOddFamilies[] = {
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

constexpr Family kWideFamilies[] = {
    {"conformer_conv2d_256", R"(
encoder: conformer
encoder_conf: {output_size: 256, attention_heads: 4, linear_units: 2048, num_blocks: 2, input_layer: conv2d,
               cnn_module_kernel: 15, activation_type: swish, pos_enc_layer_type: rel_pos, selfattention_layer_type: rel_selfattn}
decoder: transformer
decoder_conf: {attention_heads: 4, linear_units: 2048, num_blocks: 2}
input_dim: 80
output_dim: 301
)"},
    {"u2pp_layer_norm_kernel_8_256", R"(
encoder: conformer
encoder_conf: {output_size: 256, attention_heads: 4, linear_units: 1024, num_blocks: 2, cnn_module_kernel: 8, causal: true,
               cnn_module_norm: layer_norm, use_dynamic_chunk: true, activation_type: swish}
decoder: bitransformer
decoder_conf: {attention_heads: 4, linear_units: 1024, num_blocks: 2, r_num_blocks: 1}
input_dim: 80
output_dim: 301
)"},
    {"transformer_conv2d_256", R"(
encoder: transformer
encoder_conf: {output_size: 256, attention_heads: 4, linear_units: 2048, num_blocks: 2, input_layer: conv2d,
               pos_enc_layer_type: abs_pos, selfattention_layer_type: selfattn}
decoder: transformer
decoder_conf: {attention_heads: 4, linear_units: 2048, num_blocks: 2}
input_dim: 80
output_dim: 301
)"},
    {"conformer_conv2d8_eight_heads_512", R"(
encoder: conformer
encoder_conf: {output_size: 512, attention_heads: 8, linear_units: 2048, num_blocks: 1, input_layer: conv2d8,
               cnn_module_kernel: 31, activation_type: swish, pos_enc_layer_type: rel_pos, selfattention_layer_type: rel_selfattn}
decoder: transformer
decoder_conf: {attention_heads: 8, linear_units: 2048, num_blocks: 1}
input_dim: 80
output_dim: 301
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

}  // namespace

std::span<const Family> OddFamilies() { return kOddFamilies; }
std::span<const Family> WideFamilies() { return kWideFamilies; }

std::string MakeFamilyModel(const Family& family) {
  const std::string directory = MakeDirectory(std::string("family_") + family.name);
  const auto config = ParseTrainYaml(family.yaml);
  EXPECT_TRUE(config.ok()) << config.status().ToString();
  const auto expected = ExpectedTensors(*config);
  EXPECT_TRUE(expected.ok()) << expected.status().ToString();
  std::mt19937 random(20);
  std::vector<CraftedTensor> tensors;
  std::map<std::string, std::string> storages;
  for (const ExpectedTensor& tensor : *expected) {
    const std::string key = std::to_string(tensors.size());
    storages[key] = RandomTensor(tensor.name, tensor.shape, random);
    tensors.push_back({.name = tensor.name,
                       .key = key,
                       .storage_elements = static_cast<int64_t>(storages[key].size() / sizeof(float)),
                       .shape = tensor.shape,
                       .stride = RowMajor(tensor.shape)});
  }
  WriteFile(directory + "/final.pt", WriteCheckpoint(PickleProgram(PickleStateDict(tensors)), storages));
  WriteFile(directory + "/train.yaml", family.yaml);
  std::string units = "<blank> 0\n<unk> 1\n";  // pieces, as SentencePiece makes them
  const int last = static_cast<int>(config->vocab_size) - 1;
  for (int i = 2; i < last; ++i)
    units += (i % 3 == 0 ? "▁p" : "s") + std::to_string(i) + " " + std::to_string(i) + "\n";
  WriteFile(directory + "/units.txt", units + "<sos/eos> " + std::to_string(last) + "\n");
  return directory;
}

std::vector<Audio> FamilyAudio() {
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

}  // namespace ting::testing
