// src/importers/checkpoint/expected_tensors.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/expected_tensors.h"

#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/status_macros.h"
#include "kernels/subsample_conv2d.h"

namespace ting {
namespace {

// Appends the tensors of one module after another.
class Lister {
 public:
  void Tensor(std::string name, std::vector<int64_t> shape) { out_.push_back({std::move(name), std::move(shape)}); }

  void WeightAndBias(const std::string& prefix, std::vector<int64_t> weight, int64_t bias) {
    Tensor(prefix + ".weight", std::move(weight));
    Tensor(prefix + ".bias", {bias});
  }
  void Linear(const std::string& prefix, int64_t outputs, int64_t inputs) {
    WeightAndBias(prefix, {outputs, inputs}, outputs);
  }
  void Norm(const std::string& prefix, int64_t size) { WeightAndBias(prefix, {size}, size); }

  void Attention(const std::string& prefix, int64_t D) {
    for (const char* part : {"q", "k", "v", "out"}) Linear(prefix + ".linear_" + part, D, D);
  }

  void FeedForward(const std::string& prefix, int64_t D, int64_t units) {
    Linear(prefix + ".w_1", units, D);
    Linear(prefix + ".w_2", D, units);
  }

  void Subsampling(const EncoderConfig& encoder, const std::vector<ConvStage>& stages, int64_t bins_left) {
    const int64_t D = encoder.output_size;
    int64_t channels = 1, module = 0;
    for (const ConvStage& stage : stages) {
      const std::string name = "encoder.embed.conv." + std::to_string(module);
      WeightAndBias(name, {D, channels, stage.kernel, stage.kernel}, D);
      channels = D;
      module += 2;  // a ReLU between
    }
    const bool in_sequence = encoder.input_layer == "conv2d" || encoder.input_layer == "conv2d2";
    Linear(in_sequence ? "encoder.embed.out.0" : "encoder.embed.linear", D, D * bins_left);
  }

  void ConvModule(const std::string& prefix, const EncoderConfig& encoder) {
    const int64_t D = encoder.output_size;
    WeightAndBias(prefix + ".pointwise_conv1", {2 * D, D, 1}, 2 * D);
    WeightAndBias(prefix + ".depthwise_conv", {D, 1, encoder.cnn_module_kernel}, D);
    Norm(prefix + ".norm", D);
    if (encoder.cnn_module_norm == ConvNormKind::kBatchNorm) {
      Tensor(prefix + ".norm.running_mean", {D});
      Tensor(prefix + ".norm.running_var", {D});
    }
    WeightAndBias(prefix + ".pointwise_conv2", {D, D, 1}, D);
  }

  void EncoderAttention(const std::string& prefix, const EncoderConfig& encoder) {
    const int64_t D = encoder.output_size, heads = encoder.attention_heads;
    Attention(prefix, D);
    if (encoder.position != PositionKind::kRelative) return;
    Tensor(prefix + ".linear_pos.weight", {D, D});
    Tensor(prefix + ".pos_bias_u", {heads, D / heads});
    Tensor(prefix + ".pos_bias_v", {heads, D / heads});
  }

  void ConformerBlock(const std::string& prefix, const EncoderConfig& encoder) {
    const int64_t D = encoder.output_size;
    if (encoder.macaron_style) {
      Norm(prefix + ".norm_ff_macaron", D);
      FeedForward(prefix + ".feed_forward_macaron", D, encoder.linear_units);
    }
    Norm(prefix + ".norm_mha", D);
    EncoderAttention(prefix + ".self_attn", encoder);
    if (encoder.use_cnn_module) {
      Norm(prefix + ".norm_conv", D);
      ConvModule(prefix + ".conv_module", encoder);
      Norm(prefix + ".norm_final", D);
    }
    Norm(prefix + ".norm_ff", D);
    FeedForward(prefix + ".feed_forward", D, encoder.linear_units);
  }

  void TransformerBlock(const std::string& prefix, const EncoderConfig& encoder) {
    Norm(prefix + ".norm1", encoder.output_size);
    EncoderAttention(prefix + ".self_attn", encoder);
    Norm(prefix + ".norm2", encoder.output_size);
    FeedForward(prefix + ".feed_forward", encoder.output_size, encoder.linear_units);
  }

  void Decoder(const std::string& prefix, const ModelConfig& config, int64_t blocks) {
    const int64_t D = config.encoder.output_size;
    Tensor(prefix + ".embed.0.weight", {config.vocab_size, D});
    for (int64_t i = 0; i < blocks; ++i) {
      const std::string block = prefix + ".decoders." + std::to_string(i);
      Norm(block + ".norm1", D);
      Attention(block + ".self_attn", D);
      Norm(block + ".norm2", D);
      Attention(block + ".src_attn", D);
      Norm(block + ".norm3", D);
      FeedForward(block + ".feed_forward", D, config.decoder.linear_units);
    }
    Norm(prefix + ".after_norm", D);
    Linear(prefix + ".output_layer", config.vocab_size, D);
  }

  std::vector<ExpectedTensor> Take() { return std::move(out_); }

 private:
  std::vector<ExpectedTensor> out_;
};

// Mel bins left after the convolutions.
Result<int64_t> BinsLeft(const ModelConfig& config, const std::vector<ConvStage>& stages) {
  const int64_t bins = SubsampledFrames(stages, config.input_dim);
  if (bins > 0) return bins;
  return InvalidArgument("{} mel bins are too few for input_layer {}", config.input_dim, config.encoder.input_layer);
}

// Present in real checkpoints, used by no forward pass: tables that are computed, and the concat_linear that old
// WeNet created whether or not concat_after was on (which the configuration refuses).
bool IsUnused(std::string_view name) { return IsBuffer(name) || name.find(".concat_linear") != std::string_view::npos; }

bool IsOfModel(std::string_view name) {
  return name.starts_with("encoder.") || name.starts_with("decoder.") || name.starts_with("ctc.");
}

bool IsFloating(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF64;
}

Status CheckOne(const ExpectedTensor& expected, const StateDict& weights) {
  const TensorEntry* entry = weights.Find(expected.name);
  if (entry == nullptr) {
    return InvalidArgument("the checkpoint has no tensor {}, which train.yaml implies; do the two belong together?",
                           expected.name);
  }
  if (entry->shape != expected.shape) {
    return InvalidArgument("tensor {} is {} in the checkpoint, but train.yaml implies {}", expected.name,
                           ShapeToString(entry->shape), ShapeToString(expected.shape));
  }
  if (!IsFloating(entry->dtype)) {
    return InvalidArgument("tensor {} holds {}, not floating-point numbers; quantized checkpoints are not supported",
                           expected.name, DTypeName(entry->dtype));
  }
  return {};
}

}  // namespace

Result<std::vector<ExpectedTensor>> ExpectedTensors(const ModelConfig& config) {
  const EncoderConfig& encoder = config.encoder;
  TING_ASSIGN_OR_RETURN(const auto stages, SubsampleStages(encoder.input_layer));
  TING_ASSIGN_OR_RETURN(const int64_t bins_left, BinsLeft(config, stages));
  Lister list;
  list.Subsampling(encoder, stages, bins_left);
  for (int64_t i = 0; i < encoder.num_blocks; ++i) {
    const std::string block = "encoder.encoders." + std::to_string(i);
    if (encoder.kind == EncoderKind::kConformer) {
      list.ConformerBlock(block, encoder);
    } else {
      list.TransformerBlock(block, encoder);
    }
  }
  list.Norm("encoder.after_norm", encoder.output_size);
  list.Linear("ctc.ctc_lo", config.vocab_size, encoder.output_size);
  if (config.is_bidirectional()) {
    list.Decoder("decoder.left_decoder", config, config.decoder.num_blocks);
    list.Decoder("decoder.right_decoder", config, config.decoder.r_num_blocks);
  } else {
    list.Decoder("decoder", config, config.decoder.num_blocks);
  }
  return list.Take();
}

Status CheckTensors(const ModelConfig& config, const StateDict& weights) {
  TING_ASSIGN_OR_RETURN(const auto expected, ExpectedTensors(config));
  std::unordered_set<std::string_view> known;
  for (const ExpectedTensor& tensor : expected) {
    TING_RETURN_IF_ERROR(CheckOne(tensor, weights));
    known.insert(tensor.name);
  }
  for (const std::string& name : weights.names()) {
    if (IsOfModel(name) && !IsUnused(name) && !known.contains(name)) {
      return InvalidArgument(
          "the checkpoint has a tensor {} {}, which the model of train.yaml does not use; do the "
          "two belong together?",
          name, ShapeToString(weights.Find(name)->shape));
    }
  }
  return {};
}

}  // namespace ting
