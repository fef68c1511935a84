// src/graph/op_table.h
// SPDX-License-Identifier: Apache-2.0
//
// Every op the IR knows: its inputs, attributes and weight slots, and how its outputs' types follow. The
// meaning of each op is in the contract header of src/kernels that `contract` names.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

enum class AttributeKind { kInt, kNumber, kWord };

struct AttributeSpec {
  std::string_view name;
  AttributeKind kind;
};

struct SlotSpec {
  std::string_view name;
  bool optional = false;
};

struct OpSpec {
  std::string_view name;
  std::string_view contract;             // src/kernels/<contract>.h
  std::vector<std::string_view> inputs;  // "f32[R,D]": dtype and rank; letters are for the reader
  int num_outputs = 1;
  std::vector<AttributeSpec> attributes;
  std::vector<SlotSpec> slots;
  // Types of the outputs. Where a symbolic size is the step's choice (the top-k width) or derived (encoder rows),
  // the declared output type is taken as it stands and only dtype and rank are checked.
  Result<std::vector<TensorType>> (*infer)(const Graph& graph, const Node& node, const WeightStore& weights);
};

// Null if there is no such op.
const OpSpec* FindOp(std::string_view name);
std::span<const OpSpec> AllOps();

}  // namespace ting
