// src/passes/optimize/fuse_norm.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/optimize/fuse_norm.h"

#include "passes/rewrite.h"

namespace ting {
namespace {

constexpr double kDefaultEps = 1e-5;

double Eps(const Node& node) { return node.attributes.Number("norm_eps", kDefaultEps); }

// An op's norm_eps also serves its inner norm (conv_module), so a fused norm must agree with it.
bool EpsAgrees(const Node& op, const Node& norm) { return !op.attributes.Has("norm_eps") || Eps(op) == Eps(norm); }

}  // namespace

Status FusePreNorm(Graph& graph, WeightStore&) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    Node& node = graph.nodes[i];
    if (node.op == "layer_norm" || !OpHasSlot(node, "norm.gamma") || node.weights.contains("norm.gamma")) continue;
    const auto at = DefiningNode(graph, node.inputs[0]);
    if (!at || graph.nodes[*at].op != "layer_norm" || graph.CountUses(node.inputs[0]) != 1) continue;
    const Node norm = graph.nodes[*at];
    if (!EpsAgrees(node, norm)) continue;
    node.inputs[0] = norm.inputs[0];
    node.weights["norm.gamma"] = norm.weights.at("norm.gamma");
    node.weights["norm.beta"] = norm.weights.at("norm.beta");
    node.attributes.Set("norm_eps", Eps(norm));
    graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(*at));
    --i;
  }
  return Status();
}

Status FusePostNorm(Graph& graph, WeightStore&) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node norm = graph.nodes[i];
    if (norm.op != "layer_norm" || graph.CountUses(norm.inputs[0]) != 1) continue;
    const auto at = DefiningNode(graph, norm.inputs[0]);
    if (!at) continue;
    Node& node = graph.nodes[*at];
    if (!OpHasSlot(node, "post.gamma") || node.weights.contains("post.gamma") || !EpsAgrees(node, norm)) continue;
    node.weights["post.gamma"] = norm.weights.at("norm.gamma");
    node.weights["post.beta"] = norm.weights.at("norm.beta");
    node.attributes.Set("norm_eps", Eps(norm));
    TakeOverOutput(graph, node, norm.outputs[0]);
    graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(i));
    --i;
  }
  return Status();
}

}  // namespace ting
