// src/graph/graph.h
// SPDX-License-Identifier: Apache-2.0
//
// The IR: a small SSA graph of module ops. A Graph is plain data; what its ops mean is in op_table.h and in
// the contract headers of src/kernels, whether it is well formed is the verifier's answer, and its text form
// (printer.h, parser.h) is what tests and the engine file speak.
//
// A node is named after its first output. Weights are named constants in the Module's WeightStore; a node maps
// the slots of its op ("w1.w") to their names. Nothing here knows a backend.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tensor/attributes.h"
#include "tensor/dtype.h"
#include "tensor/weight_store.h"

namespace ting {

// An axis: a fixed size, or a symbol that a step binds ("T": encoder rows).
struct Dim {
  int64_t size = -1;
  std::string symbol;

  static Dim Fixed(int64_t size) { return {size, ""}; }
  static Dim Symbol(std::string symbol) { return {-1, std::move(symbol)}; }
  bool fixed() const { return symbol.empty(); }
  bool operator==(const Dim&) const = default;
};

struct TensorType {
  DType dtype = DType::kF32;
  std::vector<Dim> dims;
  bool operator==(const TensorType&) const = default;
};

using ValueId = int32_t;

struct Value {
  std::string name;
  TensorType type;
  bool state = false;  // a graph input that nodes write in place (key/value pools)
  bool operator==(const Value&) const = default;
};

struct Node {
  std::string op;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attributes attributes;
  std::map<std::string, std::string> weights;  // slot -> name in the WeightStore
  bool operator==(const Node&) const = default;
};

struct Graph {
  std::string name;
  std::vector<Value> values;  // all of them; a ValueId is an index
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<Node> nodes;  // in execution order

  ValueId AddValue(std::string value_name, TensorType type, bool state = false) {
    values.push_back({std::move(value_name), std::move(type), state});
    return static_cast<ValueId>(values.size()) - 1;
  }
  ValueId AddInput(std::string value_name, TensorType type, bool state = false) {
    inputs.push_back(AddValue(std::move(value_name), std::move(type), state));
    return inputs.back();
  }
  const std::string& NodeName(const Node& node) const { return values[node.outputs[0]].name; }
  int CountUses(ValueId value) const;  // by nodes and as graph output
  bool operator==(const Graph&) const = default;
};

// Everything that executes: the graphs by name and their constants.
struct Module {
  std::map<std::string, Graph> graphs;
  WeightStore weights;
};

// Removes values that nothing names any more and renumbers the rest in order of definition.
void Compact(Graph& graph);

}  // namespace ting
