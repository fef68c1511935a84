// src/models/u2/u2_engine.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/u2_engine.h"

#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "kernels/cpu/cpu_kernels.h"
#include "passes/precision/pack_weights.h"
#include "runtime/engine_file.h"

namespace ting {
namespace {

using Json = nlohmann::json;

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

// As the CPU reads them; a GPU converts them.
bool Storable(Precision precision) {
  return precision == Precision::kF32 || precision == Precision::kInt16 || precision == Precision::kBF16x1 ||
         precision == Precision::kBF16x3;
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
    const auto precision = ParsePrecision(json.at("precision").get<std::string>());
    if (!precision) return DataLoss("the engine's precision, {}, is unknown", json.at("precision").dump());
    info.precision = *precision;
    if (!Storable(info.precision)) return DataLoss("no engine has its matrices in {}", PrecisionName(info.precision));
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

}  // namespace

Result<U2Model> LoadU2Engine(const std::string& path, std::optional<Precision> precision) {
  TING_ASSIGN_OR_RETURN(EngineContents contents, ReadEngineFile(path));
  U2Model model;
  TING_RETURN_IF_ERROR(FromJson(contents.metadata, model).WithContext(path));
  model.info.vocab_size = static_cast<int>(model.tokens.size());
  model.info.unit_kind = model.tokens.kind();
  TING_RETURN_IF_ERROR(DescribeSubsampling(model).WithContext(path));
  model.module = std::move(contents.module);
  TING_RETURN_IF_ERROR(CheckDescription(model).WithContext(path));
  if (precision && *precision != model.info.precision) {
    TING_RETURN_IF_ERROR(CheckPrecision(model, *precision, path));
    TING_RETURN_IF_ERROR(PackWeights(model.module, *precision, Int16MatrixType()));
    model.info.precision = *precision;
  }
  return model;
}

Status SaveU2Model(const U2Model& model, const std::string& path) {
  if (!Storable(model.info.precision)) {
    return InvalidArgument(
        "an engine file holds matrices in f32, bf16, int16, bf16x3 or bf16x1, not in {}; a GPU "
        "makes that of each of them",
        PrecisionName(model.info.precision));
  }
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
