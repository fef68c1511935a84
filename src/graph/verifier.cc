// src/graph/verifier.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/verifier.h"

#include <algorithm>
#include <set>

#include "base/status_macros.h"
#include "graph/op_table.h"
#include "graph/printer.h"

namespace ting {
namespace {

Status CheckIds(const Graph& graph, const std::vector<ValueId>& ids, const char* what) {
  for (const ValueId id : ids) {
    if (id < 0 || id >= static_cast<ValueId>(graph.values.size())) {
      return InvalidArgument("{} {} is no value of the graph", what, id);
    }
  }
  return Status();
}

Status CheckValues(const Graph& graph) {
  std::set<std::string> names;
  for (const Value& value : graph.values) {
    if (value.name.empty()) return InvalidArgument("a value has no name");
    if (!names.insert(value.name).second) return InvalidArgument("two values are named %{}", value.name);
    if (value.type.dims.empty() || value.type.dims.size() > Shape::kMaxRank) {
      return InvalidArgument("%{} has {} axes; 1 to {} are possible", value.name, value.type.dims.size(),
                             Shape::kMaxRank);
    }
    for (const Dim& dim : value.type.dims) {
      if (dim.fixed() && dim.size < 0) return InvalidArgument("%{} has an axis of size {}", value.name, dim.size);
    }
  }
  return Status();
}

// "f32[R,D]" against a type: dtype and number of axes.
bool Matches(std::string_view spec, const TensorType& type) {
  const size_t bracket = spec.find('[');
  const size_t rank = std::count(spec.begin(), spec.end(), ',') + 1;
  return spec.substr(0, bracket) == DTypeName(type.dtype) && rank == type.dims.size();
}

Status CheckInputs(const Graph& graph, const Node& node, const OpSpec& op) {
  if (node.inputs.size() != op.inputs.size()) {
    return InvalidArgument("{} takes {} inputs, not {}", op.name, op.inputs.size(), node.inputs.size());
  }
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const Value& value = graph.values[node.inputs[i]];
    if (!Matches(op.inputs[i], value.type)) {
      return InvalidArgument("input {} is %{}: {}, {} expects {}", i, value.name, PrintType(value.type), op.name,
                             op.inputs[i]);
    }
  }
  return Status();
}

bool IsOfKind(const Attribute& attribute, AttributeKind kind) {
  switch (kind) {
    case AttributeKind::kInt:
      return std::holds_alternative<int64_t>(attribute);
    case AttributeKind::kNumber:
      return !std::holds_alternative<std::string>(attribute);
    case AttributeKind::kWord:
      return std::holds_alternative<std::string>(attribute);
  }
  return false;
}

Status CheckAttributes(const Node& node, const OpSpec& op) {
  for (const auto& [name, attribute] : node.attributes.values()) {
    const auto spec = std::find_if(op.attributes.begin(), op.attributes.end(),
                                   [&, &name = name](const auto& s) { return s.name == name; });
    if (spec == op.attributes.end()) return InvalidArgument("{} has no attribute {}", op.name, name);
    if (!IsOfKind(attribute, spec->kind))
      return InvalidArgument("attribute {} of {} has the wrong kind", name, op.name);
  }
  return Status();
}

Status CheckWeights(const Node& node, const OpSpec& op, const WeightStore& weights) {
  for (const SlotSpec& slot : op.slots) {
    if (!slot.optional && !node.weights.contains(std::string(slot.name))) {
      return InvalidArgument("weight slot {} of {} is empty", slot.name, op.name);
    }
  }
  for (const auto& [slot, weight] : node.weights) {
    const bool known =
        std::any_of(op.slots.begin(), op.slots.end(), [&, &slot = slot](const auto& s) { return s.name == slot; });
    if (!known) return InvalidArgument("{} has no weight slot {}", op.name, slot);
    if (weights.Find(weight) == nullptr) return InvalidArgument("weight {} (slot {}) does not exist", weight, slot);
  }
  return Status();
}

Status CheckOutputs(const Graph& graph, const Node& node, const OpSpec& op, const WeightStore& weights) {
  if (static_cast<int>(node.outputs.size()) != op.num_outputs) {
    return InvalidArgument("{} gives {} outputs, not {}", op.name, op.num_outputs, node.outputs.size());
  }
  TING_ASSIGN_OR_RETURN(const auto types, op.infer(graph, node, weights));
  for (size_t i = 0; i < types.size(); ++i) {
    const Value& value = graph.values[node.outputs[i]];
    if (!(value.type == types[i])) {
      return InvalidArgument("output %{} is declared {} but is {}", value.name, PrintType(value.type),
                             PrintType(types[i]));
    }
  }
  return Status();
}

Status CheckNode(const Graph& graph, const Node& node, const WeightStore& weights) {
  const OpSpec* op = FindOp(node.op);
  if (op == nullptr) return InvalidArgument("there is no op named {}", node.op);
  TING_RETURN_IF_ERROR(CheckInputs(graph, node, *op));
  TING_RETURN_IF_ERROR(CheckAttributes(node, *op));
  TING_RETURN_IF_ERROR(CheckWeights(node, *op, weights));
  return CheckOutputs(graph, node, *op, weights);
}

Status CheckNodes(const Graph& graph, const WeightStore& weights) {
  std::vector<bool> defined(graph.values.size(), false);
  for (const ValueId id : graph.inputs) {
    if (defined[id]) return InvalidArgument("%{} is an input twice", graph.values[id].name);
    defined[id] = true;
  }
  for (const Node& node : graph.nodes) {
    if (node.outputs.empty()) return InvalidArgument("a node ({}) has no output", node.op);
    TING_RETURN_IF_ERROR(CheckIds(graph, node.inputs, "input"));
    TING_RETURN_IF_ERROR(CheckIds(graph, node.outputs, "output"));
    const std::string context = "node %" + graph.NodeName(node);
    for (const ValueId id : node.inputs) {
      if (!defined[id]) return InvalidArgument("{}: %{} is used before it is defined", context, graph.values[id].name);
    }
    for (const ValueId id : node.outputs) {
      if (defined[id]) return InvalidArgument("{}: %{} is defined twice", context, graph.values[id].name);
      defined[id] = true;
    }
    TING_RETURN_IF_ERROR(CheckNode(graph, node, weights).WithContext(context));
  }
  for (const ValueId id : graph.outputs) {
    if (!defined[id]) return InvalidArgument("output %{} is never defined", graph.values[id].name);
  }
  return Status();
}

}  // namespace

Status VerifyGraph(const Graph& graph, const WeightStore& weights) {
  const std::string context = "graph " + graph.name;
  TING_RETURN_IF_ERROR(CheckValues(graph).WithContext(context));
  TING_RETURN_IF_ERROR(CheckIds(graph, graph.inputs, "input").WithContext(context));
  TING_RETURN_IF_ERROR(CheckIds(graph, graph.outputs, "output").WithContext(context));
  return CheckNodes(graph, weights).WithContext(context);
}

Status VerifyModule(const Module& module) {
  for (const auto& [name, graph] : module.graphs) {
    if (name != graph.name) return InvalidArgument("graph {} is filed under the name {}", graph.name, name);
    TING_RETURN_IF_ERROR(VerifyGraph(graph, module.weights));
  }
  return Status();
}

}  // namespace ting
