// tests/importers/checkpoint_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// LoadCheckpoint on crafted directories, well formed and wrong in one place each. Real models: real_models_test.cc.
#include "importers/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "importers/checkpoint/expected_tensors.h"
#include "tests/importers/crafted_checkpoint.h"

namespace ting {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::NamedShape;
using testing::WriteFile;

constexpr char kYaml[] = R"(
encoder: conformer
encoder_conf: {output_size: 8, attention_heads: 2, linear_units: 12, num_blocks: 2, cnn_module_kernel: 3}
decoder: bitransformer
decoder_conf: {attention_heads: 4, linear_units: 10, num_blocks: 2, r_num_blocks: 1}
dataset_conf: {fbank_conf: {num_mel_bins: 11}}
input_dim: 11
output_dim: 6
)";
constexpr char kUnits[] = "<blank> 0\n<unk> 1\n一 2\n丁 3\n七 4\n<sos/eos> 5\n";
constexpr char kCmvn[] = "[ 1 2 3 4 5 6 7 8 9 10 11 1  2 5 10 17 26 37 50 65 82 101 122 0 ]";

// A few names of each part, written out by hand so that the list under test is not its own judge.
const std::vector<NamedShape> kSomeShapes = {
    {"encoder.embed.conv.0.weight", {8, 1, 3, 3}},
    {"encoder.embed.conv.2.weight", {8, 8, 3, 3}},
    {"encoder.embed.out.0.weight", {8, 16}},  // 11 bins -> 5 -> 2, times 8 channels
    {"encoder.encoders.1.self_attn.linear_pos.weight", {8, 8}},
    {"encoder.encoders.1.self_attn.pos_bias_u", {2, 4}},
    {"encoder.encoders.0.feed_forward_macaron.w_1.weight", {12, 8}},
    {"encoder.encoders.0.conv_module.pointwise_conv1.weight", {16, 8, 1}},
    {"encoder.encoders.0.conv_module.depthwise_conv.weight", {8, 1, 3}},
    {"encoder.encoders.0.conv_module.norm.running_var", {8}},
    {"encoder.encoders.1.norm_final.bias", {8}},
    {"encoder.after_norm.weight", {8}},
    {"ctc.ctc_lo.weight", {6, 8}},
    {"decoder.left_decoder.embed.0.weight", {6, 8}},
    {"decoder.left_decoder.decoders.1.src_attn.linear_out.weight", {8, 8}},
    {"decoder.right_decoder.decoders.0.feed_forward.w_2.weight", {8, 10}},
    {"decoder.right_decoder.output_layer.bias", {6}},
};

std::vector<NamedShape> ShapesOf(const std::string& yaml) {
  const auto config = ParseTrainYaml(yaml);
  EXPECT_TRUE(config.ok()) << config.status().ToString();
  std::vector<NamedShape> shapes;
  const auto expected = ExpectedTensors(*config);
  for (const ExpectedTensor& tensor : *expected) shapes.push_back({tensor.name, tensor.shape});
  return shapes;
}

NamedShape* FindShape(std::vector<NamedShape>* shapes, const std::string& name) {
  const auto it = std::find_if(shapes->begin(), shapes->end(), [&](const NamedShape& s) { return s.name == name; });
  return it == shapes->end() ? nullptr : &*it;
}

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() {
    WriteFile(File("train.yaml"), kYaml);
    WriteFile(File("units.txt"), kUnits);
    WriteFile(File("final.pt"), testing::WriteFloatCheckpoint(shapes_));
  }
  std::string File(const std::string& name) const { return directory_ + "/" + name; }
  void WriteWeights() const { WriteFile(File("final.pt"), testing::WriteFloatCheckpoint(shapes_)); }
  std::string Refusal() const {
    const auto loaded = LoadCheckpoint(directory_);
    return loaded.ok() ? "accepted" : loaded.status().message();
  }

  const std::string directory_ =
      testing::MakeDirectory(::testing::UnitTest::GetInstance()->current_test_info()->name());
  std::vector<NamedShape> shapes_ = ShapesOf(kYaml);
};

TEST_F(CheckpointTest, Loads) {
  const auto loaded = LoadCheckpoint(directory_);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded->config.vocab_size, 6);
  EXPECT_EQ(loaded->config.eos_id, 5);
  EXPECT_EQ(loaded->tokens.text(2), "一");
  EXPECT_EQ(loaded->cmvn_source, CmvnSource::kNone);
  EXPECT_TRUE(loaded->cmvn_mean.empty());
  EXPECT_THAT(loaded->paths.weights, EndsWith("final.pt"));
  EXPECT_EQ(loaded->paths.bpe_model, "");
}

TEST_F(CheckpointTest, ExpectsWenetsNamesAndShapes) {
  for (const NamedShape& expected : kSomeShapes) {
    const NamedShape* found = FindShape(&shapes_, expected.name);
    ASSERT_NE(found, nullptr) << expected.name;
    EXPECT_EQ(found->shape, expected.shape) << expected.name;
  }
  EXPECT_EQ(FindShape(&shapes_, "decoder.right_decoder.decoders.1.norm1.weight"), nullptr);
}

TEST_F(CheckpointTest, RefusesEachMissingOrMisshapenTensor) {
  for (const NamedShape& expected : kSomeShapes) {
    const auto original = shapes_;
    FindShape(&shapes_, expected.name)->shape.back() += 1;
    WriteWeights();
    EXPECT_THAT(Refusal(), HasSubstr(expected.name)) << expected.name;
    EXPECT_THAT(Refusal(), HasSubstr(std::to_string(expected.shape.back() + 1))) << expected.name;
    *FindShape(&shapes_, expected.name) = {"something.else", {1}};
    WriteWeights();
    EXPECT_THAT(Refusal(), HasSubstr("no " + std::string(expected.name == "ctc.ctc_lo.weight" ? "matrix " : "tensor ") +
                                     expected.name));
    shapes_ = original;
  }
}

TEST_F(CheckpointTest, RefusesTensorsThatTheModelDoesNotUse) {
  shapes_.push_back({"encoder.encoders.2.norm_ff.weight", {8}});
  WriteWeights();
  EXPECT_THAT(Refusal(),
              HasSubstr("encoder.encoders.2.norm_ff.weight [8], which the model of train.yaml does not use"));
}

TEST_F(CheckpointTest, IgnoresTablesAndUnusedLayers) {
  shapes_.push_back({"encoder.embed.pos_enc.pe", {1, 5, 8}});
  shapes_.push_back({"encoder.encoders.0.conv_module.norm.num_batches_tracked", {}});
  shapes_.push_back({"encoder.encoders.0.concat_linear.weight", {8, 16}});
  shapes_.push_back({"criterion_att.weight", {3}});
  WriteWeights();
  EXPECT_EQ(Refusal(), "accepted");
}

TEST_F(CheckpointTest, ComparesVocabularies) {
  WriteFile(File("units.txt"), std::string(kUnits) + "more 6\n");
  EXPECT_THAT(Refusal(), HasSubstr("units.txt has 7 units, ctc.ctc_lo.weight has 6"));
  WriteFile(File("units.txt"), kUnits);
  WriteFile(File("train.yaml"), std::string(kYaml) + "vocab_size: 6\n");
  EXPECT_EQ(Refusal(), "accepted");
  std::string yaml = kYaml;
  yaml.replace(yaml.find("output_dim: 6"), 13, "output_dim: 7");
  WriteFile(File("train.yaml"), yaml);
  EXPECT_THAT(Refusal(), HasSubstr("train.yaml says 7 units (output_dim), the checkpoint has 6"));
}

TEST_F(CheckpointTest, PrefersCmvnOfTheWeights) {
  shapes_.push_back({"encoder.global_cmvn.mean", {11}});
  shapes_.push_back({"encoder.global_cmvn.istd", {11}});
  WriteWeights();
  WriteFile(File("global_cmvn"), "rubbish that must not be read");
  const auto loaded = LoadCheckpoint(directory_);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded->cmvn_source, CmvnSource::kCheckpoint);
  EXPECT_EQ(loaded->cmvn_mean.size(), 11U);
}

TEST_F(CheckpointTest, FindsCmvnFiles) {
  WriteFile(File("global_cmvn"), kCmvn);
  auto loaded = LoadCheckpoint(directory_);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded->cmvn_source, CmvnSource::kFile);
  EXPECT_THAT(loaded->cmvn_mean, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_THAT(loaded->cmvn_istd, ElementsAre(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1));
  // The file that train.yaml names on another machine, here by its last component.
  WriteFile(File("train.yaml"), std::string(kYaml) + "cmvn_file: /export/exp/sp/my_cmvn\n");
  WriteFile(File("my_cmvn"), kCmvn);
  loaded = LoadCheckpoint(directory_);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_THAT(loaded->paths.cmvn, EndsWith("/my_cmvn"));
}

TEST_F(CheckpointTest, RefusesMissingOrWrongCmvn) {
  WriteFile(File("train.yaml"), std::string(kYaml) + "cmvn_file: /export/exp/global_cmvn\n");
  EXPECT_THAT(Refusal(), HasSubstr("trained with CMVN (/export/exp/global_cmvn)"));
  WriteFile(File("global_cmvn"), "[ 1 2 1  2 5 0 ]");
  EXPECT_THAT(Refusal(), HasSubstr("CMVN has 2 means and 2 deviations, the model takes 11"));
  WriteFile(File("global_cmvn"), "[ 1 2");
  EXPECT_THAT(Refusal(), HasSubstr("global_cmvn: the closing bracket is missing"));
}

TEST_F(CheckpointTest, FindsFilesUnderTheirOtherNames) {
  std::filesystem::rename(File("final.pt"), File("avg_30.pt"));
  std::filesystem::rename(File("train.yaml"), File("config.yaml"));
  std::filesystem::rename(File("units.txt"), File("words.txt"));
  WriteFile(File("unigram.model"), "sentencepiece");
  const auto loaded = LoadCheckpoint(directory_);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_THAT(loaded->paths.weights, EndsWith("avg_30.pt"));
  EXPECT_THAT(loaded->paths.bpe_model, EndsWith("unigram.model"));
  // Two candidates: the caller must say which.
  std::filesystem::copy_file(File("avg_30.pt"), File("29.pt"));
  EXPECT_THAT(Refusal(), HasSubstr("2 other *.pt"));
  const auto named = LoadCheckpoint(File("29.pt"));
  ASSERT_TRUE(named.ok()) << named.status().ToString();
  EXPECT_THAT(named->paths.weights, EndsWith("29.pt"));
}

TEST_F(CheckpointTest, NamesMissingFiles) {
  std::filesystem::remove(File("units.txt"));
  EXPECT_THAT(Refusal(), HasSubstr("no units.txt"));
  std::filesystem::remove(File("train.yaml"));
  EXPECT_THAT(Refusal(), HasSubstr("no train.yaml"));
  std::filesystem::remove(File("final.pt"));
  EXPECT_THAT(Refusal(), HasSubstr("no final.pt"));
  WriteFile(File("final.zip"), "x");
  EXPECT_THAT(Refusal(), HasSubstr("TorchScript"));
  EXPECT_THAT(LoadCheckpoint(directory_ + "/absent").status().message(), HasSubstr("no such directory"));
}

TEST_F(CheckpointTest, NamesTheFileOfEachError) {
  WriteFile(File("units.txt"), "<blank> 0\nx 2\n");
  EXPECT_THAT(Refusal(), HasSubstr("units.txt: line 2"));
  WriteFile(File("train.yaml"), "encoder: whisper\ndecoder: transformer\n");
  EXPECT_THAT(Refusal(), HasSubstr("train.yaml: encoder is whisper"));
}

// Each family that the configuration admits has a consistent list of tensors.
TEST(ExpectedTensors, OtherFamilies) {
  auto shapes = ShapesOf(
      "encoder: transformer\ndecoder: transformer\noutput_dim: 9\n"
      "encoder_conf: {output_size: 16, input_layer: conv2d8, num_blocks: 1}\n");
  EXPECT_EQ(FindShape(&shapes, "encoder.embed.conv.4.weight")->shape, (std::vector<int64_t>{16, 16, 3, 3}));
  EXPECT_EQ(FindShape(&shapes, "encoder.embed.linear.weight")->shape, (std::vector<int64_t>{16, 16 * 9}));
  EXPECT_NE(FindShape(&shapes, "encoder.encoders.0.norm1.weight"), nullptr);
  EXPECT_EQ(FindShape(&shapes, "encoder.encoders.0.self_attn.linear_pos.weight"), nullptr);
  EXPECT_NE(FindShape(&shapes, "decoder.decoders.5.norm3.bias"), nullptr);
  shapes = ShapesOf(
      "encoder: conformer\ndecoder: transformer\noutput_dim: 9\n"
      "encoder_conf: {input_layer: conv2d6, cnn_module_norm: layer_norm, macaron_style: false}\n");
  EXPECT_EQ(FindShape(&shapes, "encoder.embed.conv.2.weight")->shape, (std::vector<int64_t>{256, 256, 5, 5}));
  EXPECT_EQ(FindShape(&shapes, "encoder.embed.linear.weight")->shape, (std::vector<int64_t>{256, 256 * 12}));
  EXPECT_EQ(FindShape(&shapes, "encoder.encoders.0.norm_ff_macaron.weight"), nullptr);
  EXPECT_EQ(FindShape(&shapes, "encoder.encoders.0.conv_module.norm.running_var"), nullptr);
  shapes = ShapesOf("encoder: conformer\ndecoder: transformer\noutput_dim: 9\nencoder_conf: {use_cnn_module: false}\n");
  EXPECT_EQ(FindShape(&shapes, "encoder.encoders.0.norm_final.weight"), nullptr);
  EXPECT_EQ(FindShape(&shapes, "encoder.encoders.0.conv_module.norm.weight"), nullptr);
}

}  // namespace
}  // namespace ting
