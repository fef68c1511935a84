// src/runtime/dispatch.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/dispatch.h"

#include "base/status_macros.h"

namespace ting {

Result<OpDesc> DescribeNode(const Graph& graph, const Node& node, const WeightStore& weights, BackendState* backend) {
  OpDesc desc{node.op, graph.NodeName(node), node.attributes, {}, backend};
  for (const auto& [slot, name] : node.weights) {
    const Weight* weight = weights.Find(name);
    if (weight == nullptr) return InvalidArgument("node %{}: weight {} does not exist", desc.node, name);
    desc.weights[slot] = weight->view;
  }
  return desc;
}

Result<std::vector<NodeChoice>> ExplainDispatch(const Graph& graph, const WeightStore& weights, Device& device) {
  std::vector<NodeChoice> choices;
  for (const Node& node : graph.nodes) {
    TING_ASSIGN_OR_RETURN(const OpDesc desc, DescribeNode(graph, node, weights, device.backend()));
    KernelChoice choice = ChooseKernel(device.kernels(), desc);
    choices.push_back(
        {desc.node, desc.op, choice.entry == nullptr ? "" : choice.entry->name, std::move(choice.refusals)});
  }
  return choices;
}

}  // namespace ting
