// src/models/u2/u2_model.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/u2_model.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "importers/checkpoint/checkpoint.h"
#include "kernels/subsample_conv2d.h"
#include "models/u2/random_checkpoint.h"
#include "models/u2/u2_graphs.h"
#include "passes/precision/pack_weights.h"
#include "runtime/engine_file.h"

namespace ting {
namespace {

using Json = nlohmann::json;

Status DescribeModel(const Checkpoint& checkpoint, U2Model& model) {
  const ModelConfig& config = checkpoint.config;
  const EncoderConfig& encoder = config.encoder;
  ModelInfo& info = model.info;
  info.family = FamilyName(config);
  info.num_parameters = checkpoint.weights.num_parameters();
  info.sample_rate_hz = static_cast<int>(config.features.sample_rate);
  info.num_mel_bins = static_cast<int>(config.features.num_mel_bins);
  info.frame_shift_ms = static_cast<int>(config.features.frame_shift_ms);
  model.frame_length_ms = static_cast<int>(config.features.frame_length_ms);
  info.vocab_size = static_cast<int>(config.vocab_size);
  info.encoder_layers = static_cast<int>(encoder.num_blocks);
  info.encoder_width = static_cast<int>(encoder.output_size);
  info.attention_heads = static_cast<int>(encoder.attention_heads);
  info.feed_forward_width = static_cast<int>(encoder.linear_units);
  info.left_decoder_layers = static_cast<int>(config.decoder.num_blocks);
  info.right_decoder_layers = static_cast<int>(config.decoder.r_num_blocks);
  info.causal = encoder.causal;
  info.streaming = encoder.use_dynamic_chunk && (encoder.causal || !encoder.use_cnn_module);
  info.has_cmvn = !checkpoint.cmvn_mean.empty();
  info.unit_kind = checkpoint.tokens.kind();
  info.blank_id = static_cast<int32_t>(config.blank_id);
  info.sos_id = static_cast<int32_t>(config.sos_id);
  info.eos_id = static_cast<int32_t>(config.eos_id);
  model.subsampling = encoder.input_layer;
  // WeNet's recipes decode U2++ (two decoders) with 0.3 and reverse weight 0.5, U2 with 0.5.
  model.default_ctc_weight = config.is_bidirectional() ? 0.3 : 0.5;
  model.default_reverse_weight = config.is_bidirectional() && config.decoder.r_num_blocks > 0 ? 0.5 : 0.0;
  return Status();
}

// What follows from the subsampling alone.
Status DescribeSubsampling(U2Model& model) {
  TING_ASSIGN_OR_RETURN(const auto stages, SubsampleStages(model.subsampling));
  int rate = 1;
  int64_t frames = 1;
  for (const ConvStage& stage : stages) rate *= stage.stride;
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage)
    frames = (frames - 1) * stage->stride + stage->kernel;
  model.info.subsampling_rate = rate;
  model.info.min_feature_frames = static_cast<int>(frames);
  return Status();
}

Result<U2Model> ImportModel(const std::string& directory, Precision precision, const PassOptions& passes,
                            std::vector<PassTime>* times) {
  constexpr std::string_view kRandom = "random:";
  const bool random = directory.starts_with(kRandom);
  TING_ASSIGN_OR_RETURN(
      Checkpoint checkpoint,
      random ? RandomCheckpoint(std::string_view(directory).substr(kRandom.size())) : LoadCheckpoint(directory));
  U2Model model;
  TING_RETURN_IF_ERROR(DescribeModel(checkpoint, model));
  TING_RETURN_IF_ERROR(DescribeSubsampling(model));
  TING_ASSIGN_OR_RETURN(model.module, BuildU2Graphs(checkpoint));
  TING_RETURN_IF_ERROR(Optimize(model.module, passes, times));
  TING_RETURN_IF_ERROR(PackWeights(model.module, precision));
  model.info.precision = precision;
  model.tokens = std::move(checkpoint.tokens);
  return model;
}

Json ToJson(const U2Model& model) {
  const ModelInfo& info = model.info;
  return {{"model", "u2"},
          {"family", info.family},
          {"num_parameters", info.num_parameters},
          {"sample_rate_hz", info.sample_rate_hz},
          {"num_mel_bins", info.num_mel_bins},
          {"frame_length_ms", model.frame_length_ms},
          {"frame_shift_ms", info.frame_shift_ms},
          {"subsampling", model.subsampling},
          {"encoder_layers", info.encoder_layers},
          {"encoder_width", info.encoder_width},
          {"attention_heads", info.attention_heads},
          {"feed_forward_width", info.feed_forward_width},
          {"left_decoder_layers", info.left_decoder_layers},
          {"right_decoder_layers", info.right_decoder_layers},
          {"causal", info.causal},
          {"streaming", info.streaming},
          {"has_cmvn", info.has_cmvn},
          {"blank_id", info.blank_id},
          {"sos_id", info.sos_id},
          {"eos_id", info.eos_id},
          {"precision", PrecisionName(info.precision)},
          {"default_ctc_weight", model.default_ctc_weight},
          {"default_reverse_weight", model.default_reverse_weight},
          {"units", model.tokens.ToText()}};
}

Status FromJson(const std::string& text, U2Model& model) {
  try {
    const Json json = Json::parse(text);
    if (json.at("model") != "u2") return Unimplemented("the engine holds a model of kind {}", json.at("model").dump());
    ModelInfo& info = model.info;
    json.at("family").get_to(info.family);
    json.at("num_parameters").get_to(info.num_parameters);
    json.at("sample_rate_hz").get_to(info.sample_rate_hz);
    json.at("num_mel_bins").get_to(info.num_mel_bins);
    json.at("frame_length_ms").get_to(model.frame_length_ms);
    json.at("frame_shift_ms").get_to(info.frame_shift_ms);
    json.at("subsampling").get_to(model.subsampling);
    json.at("encoder_layers").get_to(info.encoder_layers);
    json.at("encoder_width").get_to(info.encoder_width);
    json.at("attention_heads").get_to(info.attention_heads);
    json.at("feed_forward_width").get_to(info.feed_forward_width);
    json.at("left_decoder_layers").get_to(info.left_decoder_layers);
    json.at("right_decoder_layers").get_to(info.right_decoder_layers);
    json.at("causal").get_to(info.causal);
    json.at("streaming").get_to(info.streaming);
    json.at("has_cmvn").get_to(info.has_cmvn);
    json.at("blank_id").get_to(info.blank_id);
    json.at("sos_id").get_to(info.sos_id);
    json.at("eos_id").get_to(info.eos_id);
    json.at("default_ctc_weight").get_to(model.default_ctc_weight);
    json.at("default_reverse_weight").get_to(model.default_reverse_weight);
    info.precision = json.at("precision") == "bf16" ? Precision::kBF16 : Precision::kF32;
    TING_ASSIGN_OR_RETURN(model.tokens, TokenTable::Parse(json.at("units").get<std::string>()));
  } catch (const nlohmann::json::exception& error) {
    return DataLoss("the model's description cannot be read: {}", error.what());
  }
  return Status();
}

// The graphs were verified one by one; this is what the engine relies on beyond that.
Status CheckDescription(const U2Model& model) {
  const ModelInfo& info = model.info;
  const auto in_vocab = [&](int32_t id) { return id >= 0 && id < info.vocab_size; };
  const bool sane = info.sample_rate_hz >= 1000 && info.sample_rate_hz <= 384000 && info.num_mel_bins >= 1 &&
                    info.num_mel_bins <= 1024 && model.frame_length_ms >= 1 && model.frame_length_ms <= 1000 &&
                    info.frame_shift_ms >= 1 && info.frame_shift_ms <= 1000 && info.encoder_width >= 1 &&
                    info.left_decoder_layers >= 0 && info.left_decoder_layers <= 256 &&
                    info.right_decoder_layers >= 0 && info.right_decoder_layers <= 256 && in_vocab(info.blank_id) &&
                    in_vocab(info.sos_id) && in_vocab(info.eos_id);
  if (!sane) return DataLoss("the model's description holds impossible numbers");
  std::vector<std::string> needed{"encoder", "ctc", "ctc_full"};
  if (info.left_decoder_layers > 0)
    needed.insert(needed.end(), {"cross_left", "decoder_left", "score_left", "next_left"});
  if (info.right_decoder_layers > 0) needed.insert(needed.end(), {"cross_right", "decoder_right", "score_right"});
  for (const std::string& name : needed) {
    if (!model.module.graphs.contains(name)) return DataLoss("the engine has no graph named {}", name);
  }
  return Status();
}

Result<U2Model> LoadEngine(const std::string& path, std::optional<Precision> precision) {
  TING_ASSIGN_OR_RETURN(EngineContents contents, ReadEngineFile(path));
  U2Model model;
  TING_RETURN_IF_ERROR(FromJson(contents.metadata, model).WithContext(path));
  model.info.vocab_size = static_cast<int>(model.tokens.size());
  model.info.unit_kind = model.tokens.kind();
  TING_RETURN_IF_ERROR(DescribeSubsampling(model).WithContext(path));
  model.module = std::move(contents.module);
  TING_RETURN_IF_ERROR(CheckDescription(model).WithContext(path));
  if (precision && *precision != model.info.precision) {
    if (*precision == Precision::kF32) {
      return InvalidArgument("{} holds bf16 weights, which cannot become f32; build it again with --precision f32",
                             path);
    }
    TING_RETURN_IF_ERROR(PackWeights(model.module, *precision));
    model.info.precision = *precision;
  }
  return model;
}

}  // namespace

const char* PrecisionName(Precision precision) {
  constexpr const char* kNames[] = {"f32", "bf16", "f16", "tf32"};
  return kNames[static_cast<int>(precision)];
}

Result<U2Model> LoadU2Model(const std::string& path, std::optional<Precision> precision, const PassOptions& passes,
                            std::vector<PassTime>* pass_times) {
  std::error_code error;
  const bool checkpoint =
      std::filesystem::is_directory(path, error) || path.ends_with(".pt") || path.starts_with("random:");
  auto model = checkpoint ? ImportModel(path, precision.value_or(Precision::kF32), passes, pass_times)
                          : LoadEngine(path, precision);
  if (!model.ok()) return model.status();
  model->info.source = path;
  return model;
}

Result<U2Model> LoadU2ModelFor(const std::string& device, const std::string& path, std::optional<Precision> precision) {
  if (!device.starts_with("cuda")) return LoadU2Model(path, precision);
  TING_ASSIGN_OR_RETURN(U2Model model, LoadU2Model(path, std::nullopt));
  const Precision asked = precision.value_or(model.info.precision);
  if (model.info.precision == Precision::kBF16 && asked != Precision::kBF16) {
    return InvalidArgument("{} holds bf16 weights, which cannot become {}; build it again with --precision f32", path,
                           PrecisionName(asked));
  }
  model.info.precision = asked;
  return model;
}

Status SaveU2Model(const U2Model& model, const std::string& path) {
  std::string metadata;
  try {
    metadata = ToJson(model).dump();
  } catch (const nlohmann::json::exception& error) {  // a token that is not UTF-8; the token table refuses those
    return Internal("the model's description cannot be written: {}", error.what());
  }
  EngineContents contents{std::move(metadata), model.module};
  return WriteEngineFile(path, contents);
}

}  // namespace ting
