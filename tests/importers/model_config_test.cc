// tests/importers/model_config_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ting {
namespace {

using ::testing::HasSubstr;

// As recipes wrote it after 2023-12.
constexpr char kNewYaml[] = R"(
cmvn: global_cmvn
cmvn_conf: {cmvn_file: data/train/global_cmvn, is_json_cmvn: true}
ctc: ctc
ctc_conf: {ctc_blank_id: 0}
dataset: asr
dataset_conf:
  fbank_conf: {dither: 1.0, frame_length: 25, frame_shift: 10, num_mel_bins: 80}
  resample_conf: {resample_rate: 16000}
decoder: bitransformer
decoder_conf: {attention_heads: 8, linear_units: 1024, num_blocks: 3, r_num_blocks: 2}
encoder: conformer
encoder_conf:
  activation_type: swish
  attention_heads: 8
  causal: true
  cnn_module_kernel: 8
  cnn_module_norm: layer_norm
  input_layer: conv2d
  linear_units: 2048
  normalize_before: true
  num_blocks: 12
  output_size: 512
  pos_enc_layer_type: rel_pos
  selfattention_layer_type: rel_selfattn
  use_cnn_module: true
  use_dynamic_chunk: true
  use_dynamic_left_chunk: false
input_dim: 80
model: asr_model
model_conf: {ctc_weight: 0.3, lsm_weight: 0.1, reverse_weight: 0.3}
output_dim: 5002
tokenizer: bpe
tokenizer_conf:
  bpe_path: data/lang_char/train_960_unigram5000.model
  special_tokens: {<blank>: 0, <eos>: 2, <sos>: 2, <unk>: 1}
  symbol_table_path: data/dict/lang_char.txt
vocab_size: 5002
)";

// Early 2021: features under collate_conf, CMVN at the top, no tokenizer.
constexpr char kOldYaml[] = R"(
encoder: conformer
encoder_conf:
    output_size: 256
    attention_heads: 4
    linear_units: 2048
    num_blocks: 12
    dropout_rate: 0.1
    input_layer: conv2d
    normalize_before: true
    cnn_module_kernel: 15
    use_cnn_module: True
    activation_type: 'swish'
    pos_enc_layer_type: 'rel_pos'
    selfattention_layer_type: 'rel_selfattn'
decoder: transformer
decoder_conf:
    attention_heads: 4
    linear_units: 2048
    num_blocks: 6
model_conf:
    ctc_weight: 0.3
collate_conf:
    feature_extraction_conf:
        feature_type: 'fbank'
        mel_bins: 40
        frame_shift: 12
        frame_length: 20
        using_pitch: false
cmvn_file: /home/someone/exp/global_cmvn
is_json_cmvn: false
input_dim: 40
output_dim: 4233
)";

std::string Replace(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string Refusal(const std::string& yaml) {
  const auto config = ParseTrainYaml(yaml);
  return config.ok() ? "accepted" : config.status().message();
}

TEST(ModelConfig, ReadsNewGeneration) {
  const auto config = ParseTrainYaml(kNewYaml);
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->encoder.kind, EncoderKind::kConformer);
  EXPECT_EQ(config->encoder.output_size, 512);
  EXPECT_EQ(config->encoder.attention_heads, 8);
  EXPECT_EQ(config->encoder.cnn_module_kernel, 8);
  EXPECT_TRUE(config->encoder.causal);
  EXPECT_EQ(config->encoder.cnn_module_norm, ConvNormKind::kLayerNorm);
  EXPECT_TRUE(config->encoder.use_dynamic_chunk);
  EXPECT_TRUE(config->encoder.macaron_style);
  EXPECT_EQ(config->encoder.activation, Activation::kSwish);
  EXPECT_EQ(config->decoder.kind, DecoderKind::kBitransformer);
  EXPECT_EQ(config->decoder.linear_units, 1024);
  EXPECT_EQ(config->decoder.num_blocks, 3);
  EXPECT_EQ(config->decoder.r_num_blocks, 2);
  EXPECT_EQ(config->decoder.activation, Activation::kRelu);
  EXPECT_EQ(config->vocab_size, 5002);
  EXPECT_EQ(config->sos_id, 2);
  EXPECT_EQ(config->eos_id, 2);
  EXPECT_EQ(config->tokenizer, TokenizerKind::kBpe);
  EXPECT_EQ(config->bpe_path, "data/lang_char/train_960_unigram5000.model");
  EXPECT_EQ(config->cmvn_file, "data/train/global_cmvn");
  EXPECT_TRUE(config->is_json_cmvn);
  EXPECT_DOUBLE_EQ(config->reverse_weight, 0.3);
  EXPECT_EQ(FamilyName(*config), "U2++ conformer (bidirectional decoder)");
}

TEST(ModelConfig, ReadsOldGeneration) {
  const auto config = ParseTrainYaml(kOldYaml);
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->features.num_mel_bins, 40);
  EXPECT_EQ(config->features.frame_shift_ms, 12);
  EXPECT_EQ(config->features.frame_length_ms, 20);
  EXPECT_EQ(config->features.sample_rate, 16000);
  EXPECT_EQ(config->cmvn_file, "/home/someone/exp/global_cmvn");
  EXPECT_FALSE(config->is_json_cmvn);
  EXPECT_EQ(config->tokenizer, TokenizerKind::kUnstated);
  EXPECT_EQ(config->sos_id, 4232);  // the last unit, before special tokens were written down
  EXPECT_EQ(config->eos_id, 4232);
  EXPECT_FALSE(config->encoder.causal);
  EXPECT_EQ(config->encoder.cnn_module_norm, ConvNormKind::kBatchNorm);
  EXPECT_EQ(FamilyName(*config), "conformer (full context)");
}

TEST(ModelConfig, AppliesDefaultsOfEachKind) {
  const auto conformer = ParseTrainYaml("encoder: conformer\ndecoder: transformer\n");
  ASSERT_TRUE(conformer.ok()) << conformer.status().ToString();
  EXPECT_EQ(conformer->encoder.num_blocks, 6);
  EXPECT_EQ(conformer->encoder.cnn_module_kernel, 15);
  EXPECT_EQ(conformer->encoder.activation, Activation::kSwish);
  EXPECT_EQ(conformer->encoder.position, PositionKind::kRelative);
  EXPECT_EQ(conformer->vocab_size, 0);
  const auto transformer =
      ParseTrainYaml("encoder: transformer\ndecoder: transformer\nencoder_conf: {use_dynamic_chunk: yes}");
  ASSERT_TRUE(transformer.ok()) << transformer.status().ToString();
  EXPECT_EQ(transformer->encoder.activation, Activation::kRelu);
  EXPECT_EQ(transformer->encoder.position, PositionKind::kAbsolute);
  EXPECT_FALSE(transformer->encoder.use_cnn_module);
  EXPECT_EQ(FamilyName(*transformer), "U2 transformer");
}

TEST(ModelConfig, SetsVocabularyOnce) {
  auto config = ParseTrainYaml("encoder: conformer\ndecoder: transformer\n");
  ASSERT_TRUE(config.ok());
  EXPECT_FALSE(SetVocabSize(0, &*config).ok());
  ASSERT_TRUE(SetVocabSize(100, &*config).ok());
  EXPECT_EQ(config->eos_id, 99);
  EXPECT_THAT(SetVocabSize(101, &*config).message(), HasSubstr("says 100 units (output_dim), the checkpoint has 101"));
}

struct Case {
  const char* from;
  const char* to;
  const char* expected;
};

TEST(ModelConfig, RefusesUnsupportedByName) {
  const Case cases[] = {
      {"encoder: conformer", "encoder: squeezeformer", "encoder is squeezeformer; supported: conformer, transformer"},
      {"encoder: conformer", "encoder: efficientConformer", "encoder is efficientConformer"},
      {"encoder: conformer", "encoder: branchformer", "encoder is branchformer"},
      {"encoder: conformer", "encoder: e_branchformer", "encoder is e_branchformer"},
      {"encoder: conformer", "encoder: dual_conformer", "encoder is dual_conformer"},
      {"encoder: conformer", "encoder: sanm_encoder", "encoder is sanm_encoder"},
      {"encoder: conformer", "encoder: firered_conformer", "encoder is firered_conformer"},
      {"decoder: bitransformer", "decoder: sanm_decoder", "decoder is sanm_decoder; supported: transformer, bitransf"},
      {"model: asr_model", "model: paraformer", "model is paraformer; supported: asr_model"},
      {"model: asr_model", "model: whisper", "model is whisper"},
      {"model: asr_model", "model: ctl_model", "model is ctl_model"},
      {"model: asr_model", "model: transducer", "model is transducer"},
      {"model: asr_model", "joint: transducer_joint", "transducer (joint)"},
      {"input_layer: conv2d", "input_layer: linear", "encoder_conf.input_layer is linear; supported: conv2d, conv2d2"},
      {"normalize_before: true", "normalize_before: false", "encoder_conf.normalize_before is false"},
      {"normalize_before: true", "layer_norm_type: rms_norm", "encoder_conf.layer_norm_type is rms_norm"},
      {"activation_type: swish", "activation_type: hardtanh",
       "encoder_conf.activation_type is hardtanh; supported: sw"},
      {"normalize_before: true", "concat_after: true", "encoder_conf.concat_after is true"},
      {"normalize_before: true", "key_bias: false", "encoder_conf.key_bias is false"},
      {"normalize_before: true", "mlp_type: gated", "encoder_conf.mlp_type is gated"},
      {"normalize_before: true", "n_kv_head: 2", "encoder_conf.n_kv_head is 2"},
      {"pos_enc_layer_type: rel_pos", "pos_enc_layer_type: rope_pos", "pos_enc_layer_type is rope_pos"},
      {"pos_enc_layer_type: rel_pos", "pos_enc_layer_type: abs_pos", "abs_pos with rel_selfattn"},
      {"cnn_module_norm: layer_norm", "cnn_module_norm: rms_norm", "cnn_module_norm is rms_norm"},
      {"tokenizer: bpe", "tokenizer: whisper", "tokenizer is whisper"},
      {"cmvn: global_cmvn", "cmvn: utterance", "cmvn is utterance"},
      {"num_blocks: 3,", "num_blocks: 3, mlp_type: moe,", "decoder_conf.mlp_type is moe"},
      {"dataset: asr\ndataset_conf:", "dataset: asr\ndataset_conf:\n  feats_type: log_mel_spectrogram",
       "feats_type is log_mel"},
  };
  for (const Case& c : cases) {
    const auto config = ParseTrainYaml(Replace(kNewYaml, c.from, c.to));
    ASSERT_FALSE(config.ok()) << c.to;
    EXPECT_THAT(config.status().message(), HasSubstr(c.expected)) << c.to;
  }
}

TEST(ModelConfig, RefusesWrongNumbers) {
  const Case cases[] = {
      {"attention_heads: 8\n", "attention_heads: 7\n", "output_size 512 is not a multiple of attention_heads 7"},
      {"{attention_heads: 8,", "{attention_heads: 5,", "not a multiple of decoder_conf.attention_heads 5"},
      {"attention_heads: 8\n", "attention_heads: 0\n", "attention_heads is 0; supported are 1 to"},
      {"causal: true", "causal: false", "cnn_module_kernel is 8; it must be odd unless causal"},
      {"output_size: 512", "output_size: 99999999999", "output_size is 99999999999"},
      {"output_size: 512", "output_size: -4", "output_size is -4"},
      {"output_size: 512", "output_size: many", "output_size must be a whole number, not many"},
      {"output_size: 512", "output_size: [512]", "output_size must be a whole number, not a list"},
      {"output_size: 512", "output_size: 99999999999999999999999", "must be a whole number"},
      {"num_blocks: 12", "num_blocks: 100000", "num_blocks is 100000"},
      {"causal: true", "causal: perhaps", "causal must be true or false, not perhaps"},
      {"r_num_blocks: 2", "r_num_blocks: 0", "r_num_blocks is 0"},
      {", r_num_blocks: 2", "", "needs decoder_conf.r_num_blocks"},
      {"vocab_size: 5002", "vocab_size: 5003", "output_dim 5002 and vocab_size 5003 differ"},
      {"<sos>: 2", "<sos>: 5002", "<sos> has id 5002"},
      {"ctc_blank_id: 0", "ctc_blank_id: 6000", "blank has id 6000"},
      {"input_dim: 80", "input_dim: 83", "input_dim 83 and the 80 mel bins"},
      {"ctc_weight: 0.3", "ctc_weight: .nan", "ctc_weight is nan"},
      {"ctc_weight: 0.3", "ctc_weight: 1.5", "ctc_weight is 1.5"},
      {"output_size: 512", "output_size: 512\n  output_size: 256", "encoder_conf.output_size is given twice"},
      {"resample_rate: 16000", "resample_rate: 1", "resample_rate is 1"},
  };
  for (const Case& c : cases) EXPECT_THAT(Refusal(Replace(kNewYaml, c.from, c.to)), HasSubstr(c.expected)) << c.to;
}

TEST(ModelConfig, RefusesWhatIsNoConfiguration) {
  EXPECT_THAT(Refusal(""), HasSubstr("no key encoder"));
  EXPECT_THAT(Refusal("just text"), HasSubstr("not a map"));
  EXPECT_THAT(Refusal("- a\n- b\n"), HasSubstr("not a map"));
  EXPECT_THAT(Refusal("encoder: conformer\n"), HasSubstr("no key decoder"));
  EXPECT_THAT(Refusal("encoder: conformer\ndecoder: transformer\nencoder_conf: 5"),
              HasSubstr("encoder_conf is not a map"));
  EXPECT_THAT(Refusal("encoder: [conformer\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(Refusal("encoder: *nowhere\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(Refusal("encoder: \"\x1b[2J\"\ndecoder: transformer"), ::testing::Not(HasSubstr("\x1b")));
  EXPECT_THAT(Refusal(std::string(2 << 20, ' ')), HasSubstr("bytes of YAML"));
}

TEST(ModelConfig, SurvivesNestingAndAliases) {
  EXPECT_NE(Refusal(std::string(100000, '[')), "accepted");
  EXPECT_NE(Refusal(std::string(100000, '{')), "accepted");
  std::string bomb = "a0: &a0 [x, x]\n";  // 2^40 leaves if expanded
  for (int i = 1; i < 40; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last + ", " + last + "]\n";
  }
  EXPECT_EQ(Refusal(bomb + kOldYaml), "accepted");
}

}  // namespace
}  // namespace ting
