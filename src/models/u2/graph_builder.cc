// src/models/u2/graph_builder.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/graph_builder.h"

#include "base/status_macros.h"
#include "graph/printer.h"

namespace ting {
namespace {

// Does `actual` have the axes `wanted` (-1: any), possibly followed by axes of size 1 (convolutions of width 1)?
bool ShapeFits(const std::vector<int64_t>& actual, const std::vector<int64_t>& wanted) {
  if (actual.size() < wanted.size()) return false;
  for (size_t i = 0; i < actual.size(); ++i) {
    const int64_t want = i < wanted.size() ? wanted[i] : 1;
    if (want >= 0 && actual[i] != want) return false;
  }
  return true;
}

}  // namespace

GraphBuilder::GraphBuilder(std::string name, const StateDict& tensors, WeightStore& weights)
    : tensors_(tensors), weights_(weights) {
  graph_.name = std::move(name);
}

ValueId GraphBuilder::Input(const std::string& name, DType dtype, std::vector<Dim> dims, bool state) {
  return graph_.AddInput(name, TensorType{dtype, std::move(dims)}, state);
}

ValueId GraphBuilder::Add(NodeArgs args) {
  const ValueId output = graph_.AddValue(args.name, std::move(args.type));
  graph_.nodes.push_back({args.op, args.inputs, {output}, std::move(args.attributes), std::move(args.weights)});
  return output;
}

std::pair<ValueId, ValueId> GraphBuilder::AddPair(NodeArgs args, const std::string& second_name,
                                                  TensorType second_type) {
  const ValueId first = Add(std::move(args));
  const ValueId second = graph_.AddValue(second_name, std::move(second_type));
  graph_.nodes.back().outputs.push_back(second);
  return {first, second};
}

std::vector<float> GraphBuilder::Read(const std::string& tensor, const std::vector<int64_t>& shape) {
  if (!status_.ok()) return {};
  const TensorEntry* entry = tensors_.Find(tensor);
  if (entry == nullptr) {
    Fail(InvalidArgument("the checkpoint has no tensor {}, which train.yaml says it should", tensor));
    return {};
  }
  if (!ShapeFits(entry->shape, shape)) {
    Fail(InvalidArgument("tensor {} has shape {}; train.yaml makes it {}", tensor, ShapeToString(entry->shape),
                         ShapeToString(shape)));
    return {};
  }
  auto values = tensors_.ReadF32(tensor);
  if (!values.ok()) {
    Fail(values.status());
    return {};
  }
  return std::move(values).value();
}

void GraphBuilder::Values(NodeArgs& node, const std::string& slot, const Shape& shape,
                          const std::vector<float>& values) {
  if (!status_.ok()) return;
  const std::string name = DefaultWeightName(graph_, node.name, slot);
  Fail(weights_.PutF32(name, shape, values));
  node.weights[slot] = name;
}

void GraphBuilder::Weight(NodeArgs& node, const std::string& slot, const std::string& tensor,
                          const std::vector<int64_t>& shape) {
  const std::vector<float> values = Read(tensor, shape);
  if (!status_.ok()) return;
  const auto& actual = tensors_.Find(tensor)->shape;
  Shape stored;
  for (size_t i = 0; i < shape.size(); ++i) stored.Append(actual[i]);
  Values(node, slot, stored, values);
}

void GraphBuilder::Linear(NodeArgs& node, const std::string& slot, const std::string& tensor, int64_t N, int64_t K) {
  Weight(node, slot + ".w", tensor + ".weight", {N, K});
  if (Has(tensor + ".bias")) Weight(node, slot + ".b", tensor + ".bias", {N});
}

void GraphBuilder::Norm(NodeArgs& node, const std::string& slot, const std::string& tensor, int64_t D) {
  Weight(node, slot + ".gamma", tensor + ".weight", {D});
  Weight(node, slot + ".beta", tensor + ".bias", {D});
}

Result<Graph> GraphBuilder::Finish(std::vector<ValueId> outputs) {
  TING_RETURN_IF_ERROR(status_);
  graph_.outputs = std::move(outputs);
  return std::move(graph_);
}

}  // namespace ting
