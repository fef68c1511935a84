// src/models/u2/u2_model.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/u2_model.h"

#include <filesystem>

#include "base/status_macros.h"
#include "importers/checkpoint/checkpoint.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/subsample_conv2d.h"
#include "models/u2/random_checkpoint.h"
#include "models/u2/u2_engine.h"
#include "models/u2/u2_graphs.h"
#include "passes/precision/pack_weights.h"

namespace ting {
namespace {

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
  TING_RETURN_IF_ERROR(PackWeights(model.module, precision, Int16MatrixType()));
  model.info.precision = precision;
  model.tokens = std::move(checkpoint.tokens);
  return model;
}

}  // namespace

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

Status CheckPrecision(const U2Model& model, Precision asked, const std::string& path) {
  const Precision held = model.info.precision;
  const bool finer = asked == Precision::kF32 || (held == Precision::kInt16 && asked == Precision::kBF16x3);
  const bool rounded = held == Precision::kBF16 || (finer && held != Precision::kF32);
  if (held == asked || !rounded) return Status();
  return InvalidArgument("{} holds {} weights, which cannot become {}; build it again with --precision f32", path,
                         PrecisionName(held), PrecisionName(asked));
}

Result<U2Model> LoadU2Model(const std::string& path, std::optional<Precision> precision, const PassOptions& passes,
                            std::vector<PassTime>* pass_times) {
  std::error_code error;
  const bool checkpoint =
      std::filesystem::is_directory(path, error) || path.ends_with(".pt") || path.starts_with("random:");
  auto model = checkpoint ? ImportModel(path, precision.value_or(Precision::kF32), passes, pass_times)
                          : LoadU2Engine(path, precision);
  if (!model.ok()) return model.status();
  model->info.source = path;
  return model;
}

Result<U2Model> LoadU2ModelFor(const std::string& device, const std::string& path, std::optional<Precision> precision) {
  if (!device.starts_with("cuda")) return LoadU2Model(path, precision);
  TING_ASSIGN_OR_RETURN(U2Model model, LoadU2Model(path, std::nullopt));
  const Precision asked = precision.value_or(model.info.precision);
  TING_RETURN_IF_ERROR(CheckPrecision(model, asked, path));
  model.info.precision = asked;
  return model;
}

}  // namespace ting
