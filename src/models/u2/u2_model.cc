// src/models/u2/u2_model.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/u2_model.h"

#include <filesystem>

#include "base/format.h"
#include "base/status_macros.h"
#include "importers/checkpoint/checkpoint.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/subsample_conv2d.h"
#include "models/u2/operand_bounds.h"
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

// f16 holds up to 65504; half of it leaves room for roundings and for what kernels fold into operands (log2 e).
constexpr double kMostF16Operand = 65504.0 / 2;

// What bf16 is on the CPU.
Precision CpuPrecision(Precision asked) { return asked == Precision::kBF16 ? Precision::kInt16 : asked; }

constexpr const char* kBf16Detail = "bf16";

void Explain(U2Model& model, const std::string& reason) {
  model.info.details.emplace_back(kBf16Detail,
                                  fmt::format("becomes {}, {}", PrecisionName(model.info.precision), reason));
}

void TellBf16(const U2Model& model, const RecognizerOptions& options) {
  for (const auto& [name, value] : model.info.details) {
    if (name == kBf16Detail && options.note) options.note(fmt::format("{} {}", name, value));
  }
}

Status ChooseForGpu(U2Model& model) {
  TING_ASSIGN_OR_RETURN(const OperandBound bound, BoundOperands(model.module));
  const bool fits = bound.most <= kMostF16Operand;
  model.info.precision = fits ? Precision::kF16 : Precision::kBF16x1;
  Explain(
      model,
      fits ? fmt::format("which has more bits: by the weights no operand exceeds {:.0f} ({})", bound.most, bound.place)
           : fmt::format("not f16: by the weights an operand may become {:.3g} ({})", bound.most, bound.place));
  return Status();
}

Result<U2Model> LoadForGpu(const std::string& path, std::optional<Precision> precision) {
  TING_ASSIGN_OR_RETURN(U2Model model, LoadU2Model(path, std::nullopt));
  const Precision held = model.info.precision;
  const Precision asked = precision.value_or(held == Precision::kInt16 ? Precision::kBF16 : held);
  TING_RETURN_IF_ERROR(CheckPrecision(model, asked, path));
  model.info.precision = asked;
  if (asked == Precision::kBF16) TING_RETURN_IF_ERROR(ChooseForGpu(model));
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
  const bool rounded = held == Precision::kBF16x1 || (finer && held != Precision::kF32);
  if (held == asked || !rounded) return Status();
  return InvalidArgument("{} holds {} weights, which cannot become {}; build it again with --precision f32", path,
                         PrecisionName(held), PrecisionName(asked));
}

Result<U2Model> LoadU2Model(const std::string& path, std::optional<Precision> precision, const PassOptions& passes,
                            std::vector<PassTime>* pass_times) {
  std::error_code error;
  const bool checkpoint =
      std::filesystem::is_directory(path, error) || path.ends_with(".pt") || path.starts_with("random:");
  std::optional<Precision> stored;
  if (precision) stored = CpuPrecision(*precision);
  auto model =
      checkpoint ? ImportModel(path, stored.value_or(Precision::kF32), passes, pass_times) : LoadU2Engine(path, stored);
  if (!model.ok()) return model.status();
  model->info.source = path;
  if (stored != precision) Explain(*model, "which has more bits in the same memory");
  return model;
}

Result<U2Model> LoadU2ModelFor(const RecognizerOptions& options, const std::string& path) {
  const bool gpu = options.device.starts_with("cuda");
  TING_ASSIGN_OR_RETURN(U2Model model,
                        gpu ? LoadForGpu(path, options.precision) : LoadU2Model(path, options.precision));
  TellBf16(model, options);
  return model;
}

}  // namespace ting
