// src/passes/optimize/pack_qkv.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/optimize/pack_qkv.h"

#include "base/status_macros.h"
#include "passes/rewrite.h"

namespace ting {
namespace {

Status PackNode(Graph& graph, Node& node, WeightStore& weights) {
  std::vector<float> matrix;
  std::vector<float> bias;
  int64_t width = 0;
  for (const char* part : {"q", "k", "v"}) {
    const std::string w = std::string(part) + ".w";
    const std::string b = std::string(part) + ".b";
    TING_ASSIGN_OR_RETURN(const auto values, ReadWeight(weights, node.weights[w]));
    const Shape shape = weights.Find(node.weights[w])->view.shape;
    if (shape.rank() != 2 || shape[0] != shape[1] || (width != 0 && shape[0] != width)) {
      return InvalidArgument("node %{}: {} has shape {}, not one square for q, k and v", graph.NodeName(node), w,
                             shape.ToString());
    }
    width = shape[0];
    matrix.insert(matrix.end(), values.begin(), values.end());
    bias.resize(bias.size() + width, 0.0F);
    if (node.weights.contains(b)) {
      TING_ASSIGN_OR_RETURN(const auto part_bias, ReadWeight(weights, node.weights[b]));
      if (static_cast<int64_t>(part_bias.size()) != width) {
        return InvalidArgument("node %{}: {} has {} elements, not {}", graph.NodeName(node), b, part_bias.size(),
                               width);
      }
      std::copy(part_bias.begin(), part_bias.end(), bias.end() - width);
    }
    node.weights.erase(w);
    node.weights.erase(b);
  }
  TING_RETURN_IF_ERROR(SetWeight(graph, node, "qkv.w", {3 * width, width}, matrix, weights));
  return SetWeight(graph, node, "qkv.b", {3 * width}, bias, weights);
}

}  // namespace

Status PackQkv(Graph& graph, WeightStore& weights) {
  for (Node& node : graph.nodes) {
    if (!node.weights.contains("q.w") || !node.weights.contains("k.w") || !node.weights.contains("v.w")) continue;
    TING_RETURN_IF_ERROR(PackNode(graph, node, weights));
  }
  return Status();
}

}  // namespace ting
