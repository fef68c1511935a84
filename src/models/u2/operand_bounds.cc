// src/models/u2/operand_bounds.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/operand_bounds.h"

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"
#include "kernels/embed.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/output_head.h"
#include "models/u2/row_bounds.h"
#include "runtime/dispatch.h"

namespace ting {
namespace {

// |log| of a finite f32, with room: 88.73 for the largest, and 15.95 for the smallest that Kaldi's features take.
constexpr double kMostFeature = 89;

class GraphWalk {
 public:
  explicit GraphWalk(const Graph& graph) : graph_(graph), values_(graph.values.size()) {}

  Status SetInputs(const std::map<std::string, double>& inputs) {
    for (const ValueId id : graph_.inputs) {
      const Value& value = graph_.values[id];
      if (value.type.dtype != DType::kF32 || value.state) continue;
      const auto it = inputs.find(value.name);
      if (it == inputs.end()) return InvalidArgument("graph {}: no bound is given for %{}", graph_.name, value.name);
      if (value.type.dims.size() != 2 || !value.type.dims[1].fixed())
        return InvalidArgument("graph {}: %{} is no rows of one width", graph_.name, value.name);
      values_[id].each.assign(value.type.dims[1].size, it->second);
    }
    return Status();
  }

  Status Visit(const Node& node, const OpDesc& desc) {
    NodeBounds bounds(graph_.name + "." + desc.node, result_.operand);
    TING_ASSIGN_OR_RETURN(values_[node.outputs[0]], Bound(bounds, node, desc));
    return Status();
  }

  GraphBounds Finish() {
    for (const ValueId id : graph_.outputs) result_.outputs.push_back(Most(values_[id].each));
    return std::move(result_);
  }

 private:
  const Rows& Input(const Node& node, int i) const { return values_[node.inputs[i]]; }

  Result<Rows> Bound(NodeBounds& bounds, const Node& node, const OpDesc& desc) {
    const std::string& op = desc.op;
    if (op == "add" || op == "add_positions") return BoundElementwise(node, desc);
    if (op == "embed") return BoundEmbed(bounds, desc);
    if (op == "layer_norm") {
      TING_ASSIGN_OR_RETURN(const NormParams norm, ParseLayerNorm(desc));
      return Through(norm, Input(node, 0));
    }
    if (op == "linear") {
      TING_ASSIGN_OR_RETURN(const LinearOpParams params, ParseLinear(desc));
      Rows rows{bounds.Product(Input(node, 0), params.linear), {}, {}};
      bounds.Note(rows.each);  // keys and values of the memory
      return rows;
    }
    if (op == "feed_forward") {
      TING_ASSIGN_OR_RETURN(const FeedForwardParams params, ParseFeedForward(desc));
      return bounds.FeedForward(params, Input(node, 0));
    }
    if (op == "conv_module") {
      TING_ASSIGN_OR_RETURN(const ConvModuleParams params, ParseConvModule(desc));
      return bounds.ConvModule(params, Input(node, 0));
    }
    if (op == "subsample_conv2d") {
      TING_ASSIGN_OR_RETURN(const SubsampleParams params, ParseSubsampleConv2d(desc));
      return bounds.Subsample(params, Input(node, 0));
    }
    if (op.ends_with("attention")) return BoundAttention(bounds, node, desc);
    return BoundHead(bounds, node, desc);
  }

  Result<Rows> BoundElementwise(const Node& node, const OpDesc& desc) {
    const Rows& a = Input(node, 0);
    if (desc.op == "add_positions") return Rows{Sum(a.each, 1, Bounds(a.each.size(), 1.0)), {}, {}};
    TING_ASSIGN_OR_RETURN(const double scale, ReadNumber(desc, "scale", 1));
    return Rows{Sum(a.each, scale, Input(node, 1).each), {}, {}};
  }

  static Result<Rows> BoundEmbed(NodeBounds& bounds, const OpDesc& desc) {
    TING_ASSIGN_OR_RETURN(const EmbedParams params, ParseEmbed(desc));
    const std::vector<float> table = UnpackMatrix(params.table);
    double most = 0;
    for (const float value : table) most = std::max(most, std::abs(static_cast<double>(value)));
    bounds.Note(most);
    return Rows{Bounds(params.table.shape[1], most * std::abs(params.scale) + 1), {}, {}};
  }

  Result<Rows> BoundAttention(NodeBounds& bounds, const Node& node, const OpDesc& desc) {
    if (desc.op == "cross_attention") {
      TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseCrossAttention(desc));
      const Bounds& memory = Input(node, 1).each;
      if (static_cast<int64_t>(memory.size()) < params.key_column + 2 * params.D)
        return InvalidArgument("node %{}: its memory has {} columns", desc.node, memory.size());
      return bounds.CrossAttention(params, Input(node, 0), memory);
    }
    TING_ASSIGN_OR_RETURN(const AttentionParams params,
                          desc.op == "tree_attention" ? ParseTreeAttention(desc) : ParseSelfAttention(desc));
    return bounds.SelfAttention(params, Input(node, 0));
  }

  Result<Rows> BoundHead(NodeBounds& bounds, const Node& node, const OpDesc& desc) {
    TING_ASSIGN_OR_RETURN(const OutputHeadParams params, ParseOutputHead(desc));
    return Rows{bounds.Product(Through(params.norm, Input(node, 0)), params.head), {}, {}};
  }

  const Graph& graph_;
  std::vector<Rows> values_;
  GraphBounds result_;
};

}  // namespace

Result<GraphBounds> BoundGraph(const Graph& graph, const WeightStore& weights,
                               const std::map<std::string, double>& inputs) {
  GraphWalk walk(graph);
  TING_RETURN_IF_ERROR(walk.SetInputs(inputs));
  for (const Node& node : graph.nodes) {
    TING_ASSIGN_OR_RETURN(const OpDesc desc, DescribeNode(graph, node, weights, nullptr));
    TING_RETURN_IF_ERROR(walk.Visit(node, desc));
  }
  return walk.Finish();
}

Result<OperandBound> BoundOperands(const Module& module) {
  OperandBound largest;
  const auto bound = [&](const std::string& name, const std::map<std::string, double>& inputs) -> Result<double> {
    const auto it = module.graphs.find(name);
    if (it == module.graphs.end()) return 0.0;
    TING_ASSIGN_OR_RETURN(const GraphBounds bounds, BoundGraph(it->second, module.weights, inputs));
    if (bounds.operand.most > largest.most) largest = bounds.operand;
    return bounds.outputs[0];
  };
  TING_ASSIGN_OR_RETURN(const double encoder, bound("encoder", {{"features", kMostFeature}}));
  TING_RETURN_IF_ERROR(bound("ctc", {{"hidden", encoder}}).status());
  TING_RETURN_IF_ERROR(bound("ctc_full", {{"hidden", encoder}}).status());
  for (const std::string side : {"left", "right"}) {
    TING_ASSIGN_OR_RETURN(const double cross, bound("cross_" + side, {{"encoder", encoder}}));
    TING_ASSIGN_OR_RETURN(const double hidden, bound("decoder_" + side, {{"cross", cross}}));
    TING_RETURN_IF_ERROR(bound("score_" + side, {{"hidden", hidden}}).status());
    TING_RETURN_IF_ERROR(bound("next_" + side, {{"hidden", hidden}}).status());
  }
  return largest;
}

}  // namespace ting
