// src/passes/optimize/fuse_residual.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/optimize/fuse_residual.h"

#include "passes/rewrite.h"

namespace ting {

Status FuseResidual(Graph& graph, WeightStore&) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node add = graph.nodes[i];
    if (add.op != "add" || add.inputs[0] == add.inputs[1] || graph.CountUses(add.inputs[1]) != 1) continue;
    const auto at = DefiningNode(graph, add.inputs[1]);
    if (!at) continue;
    Node& node = graph.nodes[*at];
    const double scale = add.attributes.Number("scale", 1.0);
    const bool possible = OpHasAttribute(node, "residual") && node.attributes.Number("residual", 0) == 0 &&
                          !node.weights.contains("post.gamma") && node.inputs[0] == add.inputs[0] && scale != 0 &&
                          (scale == 1.0 || node.op == "feed_forward");
    if (!possible) continue;
    node.attributes.Set("residual", scale);
    TakeOverOutput(graph, node, add.outputs[0]);
    graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(i));
    --i;
  }
  return Status();
}

}  // namespace ting
