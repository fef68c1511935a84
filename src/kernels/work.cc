// src/kernels/work.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/work.h"

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/subsample_conv2d.h"

namespace ting {
namespace {

using Works = std::vector<KernelWork>;

constexpr double kNormFlops = 8;     // a value: mean, variance, scale and shift
constexpr double kSoftmaxFlops = 5;  // a value: maximum, difference, exponential, sum

double Axis(const OpDesc& desc, const std::string& slot, int axis) {
  const auto it = desc.weights.find(slot);
  return it != desc.weights.end() && it->second.shape.rank() > axis ? static_cast<double>(it->second.shape[axis]) : 0;
}

double RowsOf(const KernelContext& context) { return static_cast<double>(context.inputs[0].rows()); }
double WidthOf(const KernelContext& context) { return static_cast<double>(context.inputs[0].shape[1]); }

// y [R, N] = x [R, K] W^T; `extra` further values are read or written beside (a residual).
KernelWork Product(const char* part, double R, double N, double K, double element_bytes, double extra = 0) {
  return {part, 2 * R * N * K, element_bytes * (R * K + N * K + R * N + extra), true};
}

WorkFunction LinearWork(const OpDesc& desc, double e) {
  return [=, N = Axis(desc, "linear.w", 0), K = Axis(desc, "linear.w", 1)](const KernelContext& c, Works* out) {
    out->push_back(Product("linear", RowsOf(c), N, K, e));
  };
}

WorkFunction FeedForwardWork(const OpDesc& desc, double e) {
  const bool residual = desc.attributes.Number("residual", 0) != 0;
  return [=, F = Axis(desc, "w1.w", 0), D = Axis(desc, "w1.w", 1)](const KernelContext& c, Works* out) {
    const double R = RowsOf(c);
    out->push_back(Product("up", R, F, D, e));
    out->push_back(Product("down", R, D, F, e, residual ? R * D : 0));
  };
}

// Pairs of a row and a key that it sees, over all sequences.
double VisiblePairs(const KernelContext& c) {
  double pairs = 0;
  const RowSet* rows = c.input_rows.empty() ? nullptr : c.input_rows[0];
  const int sequences = rows == nullptr ? 0 : rows->num_sequences();
  for (int b = 0; b < sequences; ++b) {
    const int64_t T = rows->length(b);
    const int64_t step = c.options->chunk_frames > 0 ? c.options->chunk_frames : std::max<int64_t>(T, 1);
    for (int64_t i = 0; i < T; i += step) {  // the rows of a chunk see the same keys
      const KeyRange keys = VisibleKeys(*c.options, i, T);
      pairs += static_cast<double>((keys.last - keys.first) * std::min(step, T - i));
    }
  }
  return pairs;
}

double LongestOf(const RowSet* rows) {
  int32_t longest = 0;
  for (int b = 0; rows != nullptr && b < rows->num_sequences(); ++b) longest = std::max(longest, rows->length(b));
  return longest;
}

// q (k, v) and out around an attention of `pairs` pairs that reads `memory` values beside its queries.
void AddAttention(double R, double D, double projected, double pairs, double memory, double e, bool residual,
                  Works* out) {
  out->push_back(Product(projected > D ? "qkv" : "q", R, projected, D, e));
  out->push_back({"attention", 4 * pairs * D, e * (2 * R * D + memory), true});
  out->push_back(Product("out", R, D, D, e, residual ? R * D : 0));
}

WorkFunction SelfAttentionWork(const OpDesc& desc, double e) {
  const bool residual = desc.attributes.Number("residual", 0) != 0, relative = desc.op == "rel_attention";
  return [=](const KernelContext& c, Works* out) {
    const double R = RowsOf(c), D = WidthOf(c);
    const double table = relative && !c.input_rows.empty() ? LongestOf(c.input_rows[0]) * D : 0;
    AddAttention(R, D, 3 * D, VisiblePairs(c), 2 * R * D + table, e, residual, out);
  };
}

WorkFunction TreeAttentionWork(const OpDesc& desc, double e) {
  const bool residual = desc.attributes.Number("residual", 0) != 0;
  return [=](const KernelContext& c, Works* out) {
    const double R = RowsOf(c), D = WidthOf(c);
    AddAttention(R, D, 3 * D, static_cast<double>(c.inputs[3].rows()), 2 * R * D, e, residual, out);
  };
}

// Every row is taken to look at a sequence of the mean length: which one it is, is data.
WorkFunction CrossAttentionWork(const OpDesc& desc, double e) {
  const bool residual = desc.attributes.Number("residual", 0) != 0;
  return [=](const KernelContext& c, Works* out) {
    const double R = RowsOf(c), D = WidthOf(c), T = static_cast<double>(c.inputs[1].rows());
    const RowSet* memory = c.input_rows.size() > 1 ? c.input_rows[1] : nullptr;
    const double sequences = memory == nullptr ? 1 : std::max(1, memory->num_sequences());
    AddAttention(R, D, D, R * T / sequences, 2 * T * D, e, residual, out);
  };
}

WorkFunction ConvModuleWork(const OpDesc& desc, double e) {
  const bool residual = desc.attributes.Number("residual", 0) != 0;
  return [=, taps = Axis(desc, "dw.w", 0)](const KernelContext& c, Works* out) {
    const double R = RowsOf(c), D = WidthOf(c);
    out->push_back({"pointwise1", 4 * R * D * D, e * (2 * R * D + 2 * D * D), true});  // GLU halves what is written
    out->push_back({"depthwise", 2 * R * D * taps, e * (2 * R * D + taps * D), false});
    out->push_back(Product("pointwise2", R, D, D, e, residual ? R * D : 0));
  };
}

// All convolutions as one kernel, whose values between them stay on the chip.
WorkFunction SubsampleWork(const OpDesc& desc, double e) {
  const auto stages = SubsampleStages(desc.attributes.Word("kind", "conv2d"));
  if (!stages.ok()) return {};
  const double C = Axis(desc, "conv0.w", 0), D = Axis(desc, "out.w", 0), K = Axis(desc, "out.w", 1);
  return [=, stages = *stages](const KernelContext& c, Works* out) {
    KernelWork conv{"convolutions", 0, e * (RowsOf(c) * WidthOf(c) + static_cast<double>(c.outputs[0].rows()) * K),
                    true};
    const RowSet* rows = c.input_rows.empty() ? nullptr : c.input_rows[0];
    double channels = 1;
    for (size_t s = 0; s < stages.size(); ++s) {
      const std::vector<ConvStage> until(stages.begin(), stages.begin() + static_cast<int64_t>(s) + 1);
      double frames = 0;
      for (int b = 0; rows != nullptr && b < rows->num_sequences(); ++b) {
        frames += static_cast<double>(SubsampledFrames(until, rows->length(b)));
      }
      const auto bands = static_cast<double>(SubsampledFrames(until, c.inputs[0].shape[1]));
      const double taps = static_cast<double>(stages[s].kernel * stages[s].kernel) * channels;
      conv.flops += 2 * frames * bands * C * taps;
      conv.bytes += e * C * taps;
      channels = C;
    }
    out->push_back(conv);
    out->push_back(Product("linear", static_cast<double>(c.outputs[0].rows()), D, K, e));
  };
}

// The logits of a row are written, then read by the softmax; only target_logp's sums are made beside the product.
WorkFunction HeadWork(const OpDesc& desc, double e) {
  const double V = Axis(desc, "head.w", 0), D = Axis(desc, "head.w", 1);
  if (desc.op == "target_logp") {
    return [=](const KernelContext& c, Works* out) {
      const double R = RowsOf(c), G = static_cast<double>(c.outputs[0].rows());
      out->push_back({"product", 2 * R * V * D, e * (R * D + V * D), true});
      out->push_back({"sums", 0, 8 * R, false});
      out->push_back({"scores", 0, 16 * G, false});
    };
  }
  return [=](const KernelContext& c, Works* out) {
    const double R = RowsOf(c);
    double results = 0;
    for (const TensorView& output : c.outputs) results += static_cast<double>(output.bytes());
    out->push_back(Product("product", R, V, D, e));
    out->push_back({"softmax", kSoftmaxFlops * R * V, e * R * V + results, false});
  };
}

// `values` a row's element are read or written.
WorkFunction RowsWork(const char* part, double flops, double values, double e) {
  return [=](const KernelContext& c, Works* out) {
    const auto elements = static_cast<double>(c.outputs[0].num_elements());
    out->push_back({part, flops * elements, e * values * elements, false});
  };
}

}  // namespace

WorkFunction MakeWorkFunction(const OpDesc& desc, int element_bytes) {
  const double e = element_bytes;
  if (desc.op == "linear") return LinearWork(desc, e);
  if (desc.op == "feed_forward") return FeedForwardWork(desc, e);
  if (desc.op == "self_attention" || desc.op == "rel_attention") return SelfAttentionWork(desc, e);
  if (desc.op == "tree_attention") return TreeAttentionWork(desc, e);
  if (desc.op == "cross_attention") return CrossAttentionWork(desc, e);
  if (desc.op == "conv_module") return ConvModuleWork(desc, e);
  if (desc.op == "subsample_conv2d") return SubsampleWork(desc, e);
  if (desc.op == "log_softmax" || desc.op == "log_softmax_topk" || desc.op == "target_logp") return HeadWork(desc, e);
  if (desc.op == "layer_norm") return RowsWork("norm", kNormFlops, 2, e);
  if (desc.op == "add") return RowsWork("sum", 2, 3, e);
  if (desc.op == "add_positions" || desc.op == "embed") return RowsWork("rows", 2, 2, e);
  return {};
}

}  // namespace ting
