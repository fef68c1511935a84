// src/graph/graph.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/graph.h"

#include <algorithm>
#include <utility>

namespace ting {

int Graph::CountUses(ValueId value) const {
  auto uses = std::count(outputs.begin(), outputs.end(), value);
  for (const Node& node : nodes) uses += std::count(node.inputs.begin(), node.inputs.end(), value);
  return static_cast<int>(uses);
}

void Compact(Graph& graph) {
  std::vector<ValueId> renumbered(graph.values.size(), -1);
  std::vector<Value> kept;
  const auto keep = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids) {
      if (renumbered[id] < 0) {
        renumbered[id] = static_cast<ValueId>(kept.size());
        kept.push_back(std::move(graph.values[id]));
      }
      id = renumbered[id];
    }
  };
  keep(graph.inputs);
  for (Node& node : graph.nodes) {
    keep(node.inputs);
    keep(node.outputs);
  }
  keep(graph.outputs);
  graph.values = std::move(kept);
}

}  // namespace ting
