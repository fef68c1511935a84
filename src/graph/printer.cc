// src/graph/printer.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/printer.h"

#include "base/format.h"

namespace ting {
namespace {

std::string PrintAttribute(const Attribute& attribute) {
  if (const auto* value = std::get_if<int64_t>(&attribute)) return std::to_string(*value);
  if (const auto* value = std::get_if<double>(&attribute)) {
    std::string text = fmt::format("{}", *value);  // shortest text that reads back to the same number
    if (text.find_first_of(".en") == std::string::npos) text += ".0";
    return text;
  }
  return fmt::format("\"{}\"", std::get<std::string>(attribute));
}

template <typename Items, typename Print>
std::string Join(const Items& items, Print print) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ", ") + print(item);
  return text;
}

std::string PrintNode(const Graph& graph, const Node& node) {
  const auto name = [&](ValueId id) { return "%" + graph.values[id].name; };
  const auto definition = [&](ValueId id) { return name(id) + ": " + PrintType(graph.values[id].type); };
  std::string text = Join(node.outputs, definition) + " = " + node.op + "(" + Join(node.inputs, name) + ")";
  if (!node.attributes.values().empty()) {
    text += " {" +
            Join(node.attributes.values(),
                 [](const auto& item) { return item.first + " = " + PrintAttribute(item.second); }) +
            "}";
  }
  if (!node.weights.empty()) {
    text += " [" +
            Join(node.weights,
                 [&](const auto& item) {
                   const bool usual = item.second == DefaultWeightName(graph, graph.NodeName(node), item.first);
                   return usual ? item.first : item.first + " = " + item.second;
                 }) +
            "]";
  }
  return text;
}

}  // namespace

std::string DefaultWeightName(const Graph& graph, const std::string& node, const std::string& slot) {
  return graph.name + "." + node + "." + slot;
}

std::string PrintType(const TensorType& type) {
  return std::string(DTypeName(type.dtype)) + "[" +
         Join(type.dims, [](const Dim& dim) { return dim.fixed() ? std::to_string(dim.size) : dim.symbol; }) + "]";
}

std::string PrintGraph(const Graph& graph) {
  std::string text = "graph " + graph.name + "(" + Join(graph.inputs, [&](ValueId id) {
                       const Value& value = graph.values[id];
                       return "%" + value.name + ": " + (value.state ? "state " : "") + PrintType(value.type);
                     });
  text += ") -> (" + Join(graph.outputs, [&](ValueId id) { return "%" + graph.values[id].name; }) + ") {\n";
  for (const Node& node : graph.nodes) text += "  " + PrintNode(graph, node) + "\n";
  return text + "}\n";
}

}  // namespace ting
