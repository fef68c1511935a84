// src/models/u2/graph_builder.h
// SPDX-License-Identifier: Apache-2.0
//
// Writes a module graph node by node, taking weights from a WeNet state_dict. The first missing or misshaped
// tensor is remembered and every later call does nothing, so that the assembly in u2_graphs.cc reads like the
// model; Finish gives the error or the graph.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "importers/checkpoint/state_dict.h"
#include "ting/status.h"

namespace ting {

class GraphBuilder {
 public:
  GraphBuilder(std::string name, const StateDict& tensors, WeightStore& weights);

  ValueId Input(const std::string& name, DType dtype, std::vector<Dim> dims, bool state = false);
  // A node with one output, named `name`, of type `type`; its weights are the ones that the next calls Set.
  struct NodeArgs {
    std::string op, name;
    std::vector<ValueId> inputs;
    TensorType type;
    Attributes attributes = {};
    std::map<std::string, std::string> weights = {};  // slots, from the functions below
  };
  ValueId Add(NodeArgs args);
  // The same for an op with two outputs.
  std::pair<ValueId, ValueId> AddPair(NodeArgs args, const std::string& second_name, TensorType second_type);

  // Copies `tensor` of the state_dict, which must have `shape` (-1: any), into slot `slot` of node `node`.
  void Weight(NodeArgs& node, const std::string& slot, const std::string& tensor, const std::vector<int64_t>& shape);
  // tensor.weight [N, K] (trailing axes of size 1 allowed) into slot.w, tensor.bias [N], if it exists, into slot.b.
  void Linear(NodeArgs& node, const std::string& slot, const std::string& tensor, int64_t N, int64_t K);
  // tensor.weight and tensor.bias [D] into slot.gamma and slot.beta.
  void Norm(NodeArgs& node, const std::string& slot, const std::string& tensor, int64_t D);
  // Values made by the caller.
  void Values(NodeArgs& node, const std::string& slot, const Shape& shape, const std::vector<float>& values);

  // The tensor's values, or empty and an error remembered.
  std::vector<float> Read(const std::string& tensor, const std::vector<int64_t>& shape);
  bool Has(const std::string& tensor) const { return tensors_.Has(tensor); }
  void Fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

  Result<Graph> Finish(std::vector<ValueId> outputs);

 private:
  Graph graph_;
  const StateDict& tensors_;
  WeightStore& weights_;
  Status status_;
};

}  // namespace ting
