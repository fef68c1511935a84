// src/graph/op_table.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/op_table.h"

#include <algorithm>
#include <deque>

#include "base/status_macros.h"

namespace ting {
namespace {

using Types = Result<std::vector<TensorType>>;

const TensorType& InputType(const Graph& graph, const Node& node, int i) { return graph.values[node.inputs[i]].type; }
const TensorType& OutputType(const Graph& graph, const Node& node, int i) { return graph.values[node.outputs[i]].type; }

Result<Shape> SlotShape(const Node& node, const WeightStore& weights, const std::string& slot) {
  const auto it = node.weights.find(slot);
  const Weight* weight = it == node.weights.end() ? nullptr : weights.Find(it->second);
  if (weight == nullptr) return InvalidArgument("weight slot {} is empty", slot);
  return weight->view.shape;
}

Types SameAsInput(const Graph& graph, const Node& node, const WeightStore&) {
  return std::vector<TensorType>{InputType(graph, node, 0)};
}

// [rows of input 0, N of the matrix in `slot`]
Types RowsByMatrix(const Graph& graph, const Node& node, const WeightStore& weights, const char* slot) {
  TING_ASSIGN_OR_RETURN(const Shape shape, SlotShape(node, weights, slot));
  if (shape.rank() < 1) return InvalidArgument("weight slot {} has no axes", slot);
  TensorType type{DType::kF32, {InputType(graph, node, 0).dims[0], Dim::Fixed(shape[0])}};
  return std::vector<TensorType>{std::move(type)};
}

Types InferLinear(const Graph& g, const Node& n, const WeightStore& w) { return RowsByMatrix(g, n, w, "linear.w"); }
Types InferLogSoftmax(const Graph& g, const Node& n, const WeightStore& w) { return RowsByMatrix(g, n, w, "head.w"); }

Types InferSubsample(const Graph& graph, const Node& node, const WeightStore& weights) {
  TING_ASSIGN_OR_RETURN(const Shape shape, SlotShape(node, weights, "out.w"));
  const TensorType& declared = OutputType(graph, node, 0);
  if (declared.dims.size() != 2 || declared.dims[0].fixed()) {
    return InvalidArgument("its output needs two axes, the first a symbol of its own");
  }
  return std::vector<TensorType>{{DType::kF32, {declared.dims[0], Dim::Fixed(shape[0])}}};
}

Types InferEmbed(const Graph& graph, const Node& node, const WeightStore& weights) {
  TING_ASSIGN_OR_RETURN(const Shape shape, SlotShape(node, weights, "table"));
  if (shape.rank() != 2) return InvalidArgument("weight slot table has {} axes, not 2", shape.rank());
  return std::vector<TensorType>{{DType::kF32, {InputType(graph, node, 0).dims[0], Dim::Fixed(shape[1])}}};
}

Types InferTopK(const Graph& graph, const Node& node, const WeightStore&) {
  const TensorType& declared = OutputType(graph, node, 0);
  if (declared.dims.size() != 2) return InvalidArgument("its outputs need two axes");
  const std::vector<Dim> dims{InputType(graph, node, 0).dims[0], declared.dims[1]};
  return std::vector<TensorType>{{DType::kF32, dims}, {DType::kS32, dims}};
}

Types InferTargets(const Graph& graph, const Node& node, const WeightStore&) {
  return std::vector<TensorType>{{DType::kF32, {InputType(graph, node, 1).dims[0]}}};
}

constexpr auto kInt = AttributeKind::kInt;
constexpr auto kNumber = AttributeKind::kNumber;
constexpr auto kWord = AttributeKind::kWord;

// Slots of a LayerNorm fused into the front of an op, and of a linear with optional bias.
std::vector<SlotSpec> Slots(std::initializer_list<const char*> linears, std::initializer_list<SlotSpec> others,
                            bool norm = true) {
  static auto* names = new std::deque<std::string>;  // string_views below point into these
  std::vector<SlotSpec> slots(others);
  for (const char* linear : linears) {
    names->push_back(std::string(linear) + ".w");
    slots.push_back({names->back(), true});
    names->push_back(std::string(linear) + ".b");
    slots.push_back({names->back(), true});
  }
  if (norm) slots.insert(slots.end(), {{"norm.gamma", true}, {"norm.beta", true}});
  return slots;
}

std::vector<OpSpec> MakeTable() {
  const std::vector<AttributeSpec> attention = {
      {"heads", kInt}, {"residual", kNumber}, {"folded", kInt}, {"norm_eps", kNumber}};
  std::vector<AttributeSpec> cross = attention;
  cross.push_back({"key_column", kInt});
  return {
      {"add", "elementwise", {"f32[R,D]", "f32[R,D]"}, 1, {{"scale", kNumber}}, {}, SameAsInput},
      {"add_positions", "elementwise", {"f32[R,D]"}, 1, {}, {}, SameAsInput},
      {"layer_norm",
       "layer_norm",
       {"f32[R,D]"},
       1,
       {{"norm_eps", kNumber}},
       {{"norm.gamma"}, {"norm.beta"}},
       SameAsInput},
      {"linear", "linear", {"f32[R,K]"}, 1, {{"activation", kWord}}, {{"linear.w"}, {"linear.b", true}}, InferLinear},
      {"feed_forward",
       "feed_forward",
       {"f32[R,D]"},
       1,
       {{"activation", kWord}, {"residual", kNumber}, {"norm_eps", kNumber}},
       Slots({"w1", "w2"}, {{"post.gamma", true}, {"post.beta", true}}),
       SameAsInput},
      {"self_attention", "attention", {"f32[R,D]"}, 1, attention, Slots({"q", "k", "v", "qkv", "o"}, {}), SameAsInput},
      {"rel_attention",
       "attention",
       {"f32[R,D]"},
       1,
       attention,
       Slots({"q", "k", "v", "qkv", "o"}, {{"pos.w"}, {"pos_u", true}, {"pos_v", true}, {"key_bias", true}}),
       SameAsInput},
      {"tree_attention",
       "attention",
       {"f32[U,D]", "s32[U]", "s32[U1]", "s32[A]", "f32[P,D2]"},
       1,
       attention,
       Slots({"q", "k", "v", "qkv", "o"}, {}),
       SameAsInput},
      {"cross_attention",
       "attention",
       {"f32[U,D]", "f32[T,M]", "s32[U]"},
       1,
       cross,
       Slots({"q", "o"}, {}),
       SameAsInput},
      {"conv_module",
       "conv_module",
       {"f32[R,D]"},
       1,
       {{"causal", kInt}, {"conv_norm", kWord}, {"residual", kNumber}, {"activation", kWord}, {"norm_eps", kNumber}},
       Slots({"pw1", "pw2"}, {{"dw.w"},
                              {"dw.b", true},
                              {"conv_norm.gamma", true},
                              {"conv_norm.beta", true},
                              {"conv_norm.mean", true},
                              {"conv_norm.var", true}}),
       SameAsInput},
      {"subsample_conv2d",
       "subsample_conv2d",
       {"f32[F,M]"},
       1,
       {{"kind", kWord}, {"scale", kNumber}},
       Slots({"conv0", "conv1", "conv2", "out"}, {{"mean", true}, {"istd", true}}, false),
       InferSubsample},
      {"embed", "embed", {"s32[U]", "s32[U]"}, 1, {{"scale", kNumber}}, {{"table"}}, InferEmbed},
      {"log_softmax",
       "output_head",
       {"f32[R,D]"},
       1,
       {{"blank", kInt}, {"norm_eps", kNumber}},
       Slots({"head"}, {}),
       InferLogSoftmax},
      {"log_softmax_topk",
       "output_head",
       {"f32[R,D]"},
       2,
       {{"blank", kInt}, {"norm_eps", kNumber}},
       Slots({"head"}, {}),
       InferTopK},
      {"target_logp",
       "output_head",
       {"f32[U,D]", "s32[G]", "s32[G]"},
       1,
       {{"blank", kInt}, {"norm_eps", kNumber}},
       Slots({"head"}, {}),
       InferTargets},
  };
}

const std::vector<OpSpec>& Table() {
  static const std::vector<OpSpec>* table = new std::vector<OpSpec>(MakeTable());
  return *table;
}

}  // namespace

std::span<const OpSpec> AllOps() { return Table(); }

const OpSpec* FindOp(std::string_view name) {
  const auto& table = Table();
  const auto it = std::find_if(table.begin(), table.end(), [&](const OpSpec& op) { return op.name == name; });
  return it == table.end() ? nullptr : &*it;
}

}  // namespace ting
