// src/passes/optimize/fold_batch_norm.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/optimize/fold_batch_norm.h"

#include <cmath>

#include "base/status_macros.h"
#include "passes/rewrite.h"

namespace ting {
namespace {

Status FoldBatchNormNode(Graph& graph, Node& node, WeightStore& weights) {
  const auto slot = [&](const char* name) { return ReadWeight(weights, node.weights[name]); };
  TING_ASSIGN_OR_RETURN(const auto gamma, slot("conv_norm.gamma"));
  TING_ASSIGN_OR_RETURN(const auto beta, slot("conv_norm.beta"));
  TING_ASSIGN_OR_RETURN(const auto mean, slot("conv_norm.mean"));
  TING_ASSIGN_OR_RETURN(const auto var, slot("conv_norm.var"));
  TING_ASSIGN_OR_RETURN(const auto dw, slot("dw.w"));
  const size_t width = gamma.size();
  std::vector<float> bias(width, 0.0F);
  if (node.weights.contains("dw.b")) {
    TING_ASSIGN_OR_RETURN(const auto old_bias, slot("dw.b"));
    bias.assign(old_bias.begin(), old_bias.end());
  }
  if (beta.size() != width || mean.size() != width || var.size() != width || bias.size() != width || width == 0 ||
      dw.size() % width != 0) {
    return InvalidArgument("node %{}: the sizes of dw and conv_norm differ", graph.NodeName(node));
  }
  const double eps = node.attributes.Number("norm_eps", 1e-5);
  std::vector<float> folded(dw.begin(), dw.end());
  for (size_t d = 0; d < width; ++d) {
    const double scale = gamma[d] / std::sqrt(static_cast<double>(var[d]) + eps);
    for (size_t at = d; at < folded.size(); at += width) folded[at] = static_cast<float>(folded[at] * scale);
    bias[d] = static_cast<float>((static_cast<double>(bias[d]) - mean[d]) * scale + beta[d]);
  }
  const auto taps = static_cast<int64_t>(folded.size() / width);
  TING_RETURN_IF_ERROR(SetWeight(graph, node, "dw.w", {taps, static_cast<int64_t>(width)}, folded, weights));
  TING_RETURN_IF_ERROR(SetWeight(graph, node, "dw.b", {static_cast<int64_t>(width)}, bias, weights));
  for (const char* name : {"gamma", "beta", "mean", "var"}) node.weights.erase(std::string("conv_norm.") + name);
  node.attributes.Set("conv_norm", std::string("none"));
  return Status();
}

}  // namespace

Status FoldBatchNorm(Graph& graph, WeightStore& weights) {
  for (Node& node : graph.nodes) {
    if (node.op != "conv_module" || node.attributes.Word("conv_norm", "none") != "batch_norm") continue;
    TING_RETURN_IF_ERROR(FoldBatchNormNode(graph, node, weights));
  }
  return Status();
}

}  // namespace ting
