// src/passes/rewrite.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/rewrite.h"

#include <algorithm>

#include "base/status_macros.h"
#include "graph/op_table.h"
#include "graph/printer.h"

namespace ting {

std::optional<size_t> DefiningNode(const Graph& graph, ValueId value) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& outputs = graph.nodes[i].outputs;
    if (std::find(outputs.begin(), outputs.end(), value) != outputs.end()) return i;
  }
  return std::nullopt;
}

void TakeOverOutput(Graph& graph, Node& node, ValueId value) {
  const bool is_output = std::find(graph.outputs.begin(), graph.outputs.end(), value) != graph.outputs.end();
  if (!is_output) std::swap(graph.values[node.outputs[0]].name, graph.values[value].name);
  node.outputs[0] = value;
}

bool OpHasSlot(const Node& node, const std::string& slot) {
  const OpSpec* op = FindOp(node.op);
  return op != nullptr &&
         std::any_of(op->slots.begin(), op->slots.end(), [&](const auto& s) { return s.name == slot; });
}

bool OpHasAttribute(const Node& node, const std::string& attribute) {
  const OpSpec* op = FindOp(node.op);
  return op != nullptr &&
         std::any_of(op->attributes.begin(), op->attributes.end(), [&](const auto& a) { return a.name == attribute; });
}

Result<std::span<const float>> ReadWeight(const WeightStore& weights, const std::string& name) {
  const Weight* weight = weights.Find(name);
  if (weight == nullptr) return InvalidArgument("weight {} does not exist", name);
  const WeightView& view = weight->view;
  if (view.dtype != DType::kF32 || view.layout != Layout::kRowMajor) {
    return FailedPrecondition("weight {} is packed or not f32; optimise before precision is assigned", name);
  }
  return std::span(view.as<float>(), static_cast<size_t>(view.shape.num_elements()));
}

Status SetWeight(Graph& graph, Node& node, const std::string& slot, const Shape& shape, std::span<const float> values,
                 WeightStore& weights) {
  std::string name = DefaultWeightName(graph, graph.NodeName(node), slot);
  while (weights.Find(name) != nullptr) name += "_";  // another node may still use the old one
  TING_RETURN_IF_ERROR(weights.PutF32(name, shape, values));
  node.weights[slot] = name;
  return Status();
}

}  // namespace ting
