// src/passes/optimize/fold_attention.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/optimize/fold_attention.h"

#include <cmath>

#include "base/status_macros.h"
#include "passes/rewrite.h"

namespace ting {
namespace {

Status FoldAttentionNode(Graph& graph, Node& node, WeightStore& weights) {
  TING_ASSIGN_OR_RETURN(const auto q, ReadWeight(weights, node.weights["q.w"]));
  const auto width = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(q.size()))));
  const int64_t heads = node.attributes.Int("heads", 1);
  if (width * width != static_cast<int64_t>(q.size()) || heads < 1 || width % heads != 0) {
    return InvalidArgument("node %{}: q.w of {} elements does not fit {} heads", graph.NodeName(node), q.size(), heads);
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(width / heads));
  std::vector<float> scaled(q.size());
  for (size_t i = 0; i < q.size(); ++i) scaled[i] = static_cast<float>(q[i] * scale);
  std::vector<double> bias(width, 0.0);
  if (node.weights.contains("q.b")) {
    TING_ASSIGN_OR_RETURN(const auto q_bias, ReadWeight(weights, node.weights["q.b"]));
    bias.assign(q_bias.begin(), q_bias.end());
  }
  if (node.op == "rel_attention") {
    TING_ASSIGN_OR_RETURN(const auto u, ReadWeight(weights, node.weights["pos_u"]));
    TING_ASSIGN_OR_RETURN(const auto v, ReadWeight(weights, node.weights["pos_v"]));
    if (static_cast<int64_t>(u.size()) != width || u.size() != v.size() || bias.size() != u.size()) {
      return InvalidArgument("node %{}: pos_u, pos_v and q.b must have {} elements", graph.NodeName(node), width);
    }
    std::vector<float> key_bias(width);
    for (int64_t i = 0; i < width; ++i) {
      key_bias[i] = static_cast<float>((static_cast<double>(v[i]) - u[i]) * scale);
      bias[i] += u[i];
    }
    TING_RETURN_IF_ERROR(SetWeight(graph, node, "key_bias", {width}, key_bias, weights));
    node.weights.erase("pos_u");
    node.weights.erase("pos_v");
  }
  std::vector<float> scaled_bias(width);
  for (int64_t i = 0; i < width; ++i) scaled_bias[i] = static_cast<float>(bias[i] * scale);
  TING_RETURN_IF_ERROR(SetWeight(graph, node, "q.w", {width, width}, scaled, weights));
  TING_RETURN_IF_ERROR(SetWeight(graph, node, "q.b", {width}, scaled_bias, weights));
  node.attributes.Set("folded", int64_t{1});
  return Status();
}

}  // namespace

Status FoldAttention(Graph& graph, WeightStore& weights) {
  for (Node& node : graph.nodes) {
    const bool attention = node.op.ends_with("_attention");
    if (!attention || node.attributes.Int("folded", 0) != 0 || !node.weights.contains("q.w")) continue;
    TING_RETURN_IF_ERROR(FoldAttentionNode(graph, node, weights));
  }
  return Status();
}

}  // namespace ting
