// src/importers/checkpoint/train_yaml.cc
// SPDX-License-Identifier: Apache-2.0
//
// ParseTrainYaml of model_config.h.
#include <yaml-cpp/yaml.h>

#include <exception>

#include "base/status_macros.h"
#include "importers/checkpoint/model_config.h"
#include "importers/checkpoint/yaml_section.h"

namespace ting {
namespace {

constexpr size_t kMaxYamlBytes = size_t{256} << 10;  // real ones have 2 to 4 KiB
// Far above any published model (WenetSpeech: 512 wide, 12 blocks), far below what would exhaust memory.
constexpr int64_t kMaxWidth = 8192;
constexpr int64_t kMaxHeads = 256;
constexpr int64_t kMaxUnits = 65536;
constexpr int64_t kMaxBlocks = 256;
constexpr int64_t kMaxKernel = 511;

Activation ReadActivation(const YamlSection& section, std::string_view otherwise) {
  const std::string word = section.OneOf("activation_type", otherwise, {"swish", "relu", "gelu"});
  return word == "swish" ? Activation::kSwish : word == "relu" ? Activation::kRelu : Activation::kGelu;
}

// Options of encoder and decoder that change the arithmetic and that no kernel implements.
void RefuseUnsupported(const YamlSection& section, int64_t heads, int64_t width) {
  section.RequireBool("normalize_before", true);
  section.RequireBool("concat_after", false);
  for (const char* bias : {"query_bias", "key_bias", "value_bias", "mlp_bias", "conv_bias"}) {
    section.RequireBool(bias, true);
  }
  section.RequireBool("final_norm", true);
  section.OneOf("layer_norm_type", "layer_norm", {"layer_norm"});
  section.OneOf("mlp_type", "position_wise_feed_forward", {"position_wise_feed_forward"});
  section.Int("n_kv_head", heads, heads, heads);
  section.Int("head_dim", width / heads, width / heads, width / heads);
  section.Int("conv_inner_factor", 2, 2, 2);
}

// Position encoding and attention are two keys in WeNet, of which only these pairs are trained models.
PositionKind ReadPosition(const YamlSection& conf, bool is_conformer) {
  const std::string position =
      conf.OneOf("pos_enc_layer_type", is_conformer ? "rel_pos" : "abs_pos", {"rel_pos", "abs_pos", "no_pos"});
  // Left out, the attention follows the position, as it did before the second key existed.
  const std::string attention = conf.OneOf(
      "selfattention_layer_type", position == "rel_pos" ? "rel_selfattn" : "selfattn", {"selfattn", "rel_selfattn"});
  if ((position == "rel_pos") != (attention == "rel_selfattn")) {
    conf.Fail(
        Unimplemented("{} with {} is not supported; use rel_pos with rel_selfattn, or abs_pos or no_pos with "
                      "selfattn",
                      position, attention));
  }
  return position == "rel_pos"   ? PositionKind::kRelative
         : position == "abs_pos" ? PositionKind::kAbsolute
                                 : PositionKind::kNone;
}

void ReadConvModule(const YamlSection& conf, EncoderConfig* encoder) {
  encoder->macaron_style = conf.Bool("macaron_style", true);
  encoder->use_cnn_module = conf.Bool("use_cnn_module", true);
  encoder->cnn_module_kernel = conf.Int("cnn_module_kernel", 15, 1, kMaxKernel);
  encoder->causal = conf.Bool("causal", false);
  const std::string norm = conf.OneOf("cnn_module_norm", "batch_norm", {"batch_norm", "layer_norm"});
  encoder->cnn_module_norm = norm == "batch_norm" ? ConvNormKind::kBatchNorm : ConvNormKind::kLayerNorm;
  encoder->conv_norm_eps = conf.Number("conv_norm_eps", 1e-5, 0, 1);
  if (encoder->use_cnn_module && !encoder->causal && encoder->cnn_module_kernel % 2 == 0) {
    conf.Fail(InvalidArgument("{} is {}; it must be odd unless causal is true", conf.PathOf("cnn_module_kernel"),
                              encoder->cnn_module_kernel));
  }
}

EncoderConfig ReadEncoder(const YamlSection& root) {
  EncoderConfig encoder;
  const bool is_conformer = root.OneOf("encoder", "", {"conformer", "transformer"}) == "conformer";
  const YamlSection conf = root.Child("encoder_conf");
  encoder.kind = is_conformer ? EncoderKind::kConformer : EncoderKind::kTransformer;
  encoder.input_layer = conf.OneOf("input_layer", "conv2d", {"conv2d", "conv2d2", "conv2d6", "conv2d8"});
  encoder.output_size = conf.Int("output_size", 256, 2, kMaxWidth);
  encoder.attention_heads = conf.Int("attention_heads", 4, 1, kMaxHeads);
  encoder.linear_units = conf.Int("linear_units", 2048, 1, kMaxUnits);
  encoder.num_blocks = conf.Int("num_blocks", 6, 1, kMaxBlocks);
  encoder.activation = ReadActivation(conf, is_conformer ? "swish" : "relu");
  encoder.norm_eps = conf.Number("norm_eps", 1e-5, 0, 1);
  encoder.use_dynamic_chunk = conf.Bool("use_dynamic_chunk", false);
  encoder.use_dynamic_left_chunk = conf.Bool("use_dynamic_left_chunk", false);
  encoder.static_chunk_size = conf.Int("static_chunk_size", 0, -1, 1 << 20);
  encoder.position = ReadPosition(conf, is_conformer);
  if (is_conformer) {
    ReadConvModule(conf, &encoder);
  } else {
    encoder.macaron_style = encoder.use_cnn_module = false;
  }
  if (encoder.output_size % encoder.attention_heads != 0) {
    conf.Fail(InvalidArgument("encoder_conf.output_size {} is not a multiple of attention_heads {}",
                              encoder.output_size, encoder.attention_heads));
  }
  if (encoder.output_size % 2 != 0) {
    conf.Fail(
        InvalidArgument("encoder_conf.output_size {} is odd; position encoding needs pairs", encoder.output_size));
  }
  RefuseUnsupported(conf, encoder.attention_heads, encoder.output_size);
  return encoder;
}

DecoderConfig ReadDecoder(const YamlSection& root, int64_t width) {
  DecoderConfig decoder;
  const bool both_ways = root.OneOf("decoder", "", {"transformer", "bitransformer"}) == "bitransformer";
  const YamlSection conf = root.Child("decoder_conf");
  decoder.kind = both_ways ? DecoderKind::kBitransformer : DecoderKind::kTransformer;
  decoder.attention_heads = conf.Int("attention_heads", 4, 1, kMaxHeads);
  decoder.linear_units = conf.Int("linear_units", 2048, 1, kMaxUnits);
  decoder.num_blocks = conf.Int("num_blocks", both_ways ? 3 : 6, 1, kMaxBlocks);
  decoder.activation = ReadActivation(conf, "relu");
  decoder.norm_eps = conf.Number("norm_eps", 1e-5, 0, 1);
  conf.OneOf("input_layer", "embed", {"embed"});
  conf.RequireBool("use_output_layer", true);
  conf.RequireBool("src_attention", true);
  if (both_ways) decoder.r_num_blocks = conf.Int("r_num_blocks", 0, 1, kMaxBlocks);
  if (both_ways && decoder.r_num_blocks == 0) {
    conf.Fail(InvalidArgument("decoder bitransformer needs decoder_conf.r_num_blocks, at least 1"));
  }
  if (width % decoder.attention_heads != 0) {
    conf.Fail(InvalidArgument("encoder_conf.output_size {} is not a multiple of decoder_conf.attention_heads {}", width,
                              decoder.attention_heads));
  }
  RefuseUnsupported(conf, decoder.attention_heads, width);
  return decoder;
}

FeatureConfig ReadFeatures(const YamlSection& root) {
  FeatureConfig features;
  const YamlSection dataset = root.Child("dataset_conf");
  dataset.OneOf("feats_type", "fbank", {"fbank"});
  YamlSection fbank = dataset.Child("fbank_conf");
  std::string bins_key = "num_mel_bins";
  if (!dataset.Has("fbank_conf") && root.Has("collate_conf")) {  // early 2021
    fbank = root.Child("collate_conf").Child("feature_extraction_conf");
    fbank.OneOf("feature_type", "fbank", {"fbank"});
    fbank.RequireBool("using_pitch", false);
    bins_key = "mel_bins";
  }
  fbank.OneOf("window_type", "povey", {"povey"});
  features.num_mel_bins = fbank.Int(bins_key, 80, 8, 512);
  features.frame_length_ms = fbank.Int("frame_length", 25, 2, 200);
  features.frame_shift_ms = fbank.Int("frame_shift", 10, 1, 200);
  features.sample_rate = dataset.Child("resample_conf").Int("resample_rate", 16000, 4000, 192000);
  return features;
}

void ReadTokens(const YamlSection& root, ModelConfig* config) {
  const int64_t output_dim = root.Int("output_dim", 0, 1, kMaxVocab);
  const int64_t vocab_size = root.Int("vocab_size", output_dim, 1, kMaxVocab);
  if (output_dim != 0 && output_dim != vocab_size) {
    root.Fail(InvalidArgument("output_dim {} and vocab_size {} differ", output_dim, vocab_size));
  }
  config->vocab_size = vocab_size;
  config->blank_id = root.Child("ctc_conf").Int("ctc_blank_id", 0, 0, kMaxVocab - 1);
  const std::string tokenizer = root.OneOf("tokenizer", "", {"", "char", "bpe"});
  config->tokenizer = tokenizer == "char"  ? TokenizerKind::kChar
                      : tokenizer == "bpe" ? TokenizerKind::kBpe
                                           : TokenizerKind::kUnstated;
  const YamlSection conf = root.Child("tokenizer_conf");
  config->bpe_path = conf.Word("bpe_path", "");
  const YamlSection special = conf.Child("special_tokens");
  config->sos_id = special.Int("<sos>", -1, 0, kMaxVocab - 1);
  config->eos_id = special.Int("<eos>", -1, 0, kMaxVocab - 1);
}

void ReadCmvn(const YamlSection& root, ModelConfig* config) {
  root.OneOf("cmvn", "global_cmvn", {"global_cmvn"});
  const bool since_2023 = root.Has("cmvn_conf");
  const YamlSection conf = since_2023 ? root.Child("cmvn_conf") : root;
  config->cmvn_file = conf.Word("cmvn_file", "");
  config->is_json_cmvn = conf.Bool("is_json_cmvn", since_2023);
}

Result<ModelConfig> Read(const YAML::Node& document) {
  Status status;
  const YamlSection root(document, "", &status);
  for (const char* key : {"encoder", "decoder"}) {
    if (!root.Has(key)) root.Fail(InvalidArgument("no key {}: this is not the train.yaml of a WeNet model", key));
  }
  root.OneOf("model", "asr_model", {"asr_model"});
  for (const char* key : {"predictor", "joint"}) {
    if (root.Has(key)) root.Fail(Unimplemented("the model is a transducer ({}); supported: CTC with attention", key));
  }
  ModelConfig config;
  config.encoder = ReadEncoder(root);
  config.decoder = ReadDecoder(root, config.encoder.output_size);
  config.features = ReadFeatures(root);
  config.input_dim = root.Int("input_dim", config.features.num_mel_bins, 1, kMaxWidth);
  if (config.input_dim != config.features.num_mel_bins) {
    root.Fail(InvalidArgument("input_dim {} and the {} mel bins of the features differ", config.input_dim,
                              config.features.num_mel_bins));
  }
  const YamlSection model = root.Child("model_conf");
  config.ctc_weight = model.Number("ctc_weight", 0.3, 0, 1);
  config.reverse_weight = model.Number("reverse_weight", 0, 0, 1);
  ReadTokens(root, &config);
  ReadCmvn(root, &config);
  TING_RETURN_IF_ERROR(status);
  if (config.vocab_size != 0) TING_RETURN_IF_ERROR(SetVocabSize(config.vocab_size, &config));
  return config;
}

}  // namespace

Result<ModelConfig> ParseTrainYaml(std::string_view text) {
  if (text.size() > kMaxYamlBytes) {
    return InvalidArgument("{} bytes of YAML; at most {} are supported", text.size(), kMaxYamlBytes);
  }
  try {  // yaml-cpp throws on syntax; nothing may leave this function
    return Read(YAML::Load(std::string(text)));
  } catch (const std::exception& error) {
    return InvalidArgument("not valid YAML: {}", error.what());
  }
}

}  // namespace ting
