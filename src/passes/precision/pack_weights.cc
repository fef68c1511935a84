// src/passes/precision/pack_weights.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/precision/pack_weights.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "base/status_macros.h"
#include "kernels/params.h"

namespace ting {
namespace {

// conv0 has one input channel: K = 9 is no matrix product worth packing.
constexpr std::string_view kMatrixSlots[] = {"q.w",   "k.w",   "v.w",   "qkv.w",   "o.w",     "w1.w",   "w2.w",
                                             "pw1.w", "pw2.w", "out.w", "conv1.w", "conv2.w", "head.w", "linear.w"};
constexpr std::string_view kF32MatrixSlots[] = {"pos.w"};

template <typename Slots>
std::set<std::string> WeightsInSlots(const Module& module, const Slots& slots) {
  std::set<std::string> names;
  for (const auto& [graph_name, graph] : module.graphs) {
    for (const Node& node : graph.nodes) {
      for (const auto& [slot, weight] : node.weights) {
        if (std::find(std::begin(slots), std::end(slots), slot) != std::end(slots)) names.insert(weight);
      }
    }
  }
  return names;
}

Status PackOne(WeightStore& weights, const std::string& name, DType dtype) {
  const Weight weight = *weights.Find(name);  // keeps the old bytes alive until they are read
  const WeightView& view = weight.view;
  if (view.shape.rank() != 2)
    return InvalidArgument("weight {} has shape {}, not a matrix", name, view.shape.ToString());
  if (view.layout == Layout::kPanel16 && view.dtype == dtype) return Status();
  const std::vector<float> matrix = UnpackMatrix(view);
  TING_ASSIGN_OR_RETURN(std::byte * out, weights.Create(name, dtype, view.shape, Layout::kPanel16));
  PackMatrix(matrix.data(), view.shape[0], view.shape[1], dtype, Layout::kPanel16, out);
  return Status();
}

DType StoredType(Precision precision, DType integers) {
  if (precision == Precision::kBF16x1) return DType::kBF16;
  if (precision == Precision::kInt16) return integers;
  return precision == Precision::kBF16x3 ? DType::kBF16x2 : DType::kF32;
}

}  // namespace

Status PackWeights(Module& module, Precision precision, DType integers) {
  const DType dtype = StoredType(precision, integers);
  for (const std::string& name : WeightsInSlots(module, kMatrixSlots)) {
    TING_RETURN_IF_ERROR(PackOne(module.weights, name, dtype));
  }
  for (const std::string& name : WeightsInSlots(module, kF32MatrixSlots)) {
    TING_RETURN_IF_ERROR(PackOne(module.weights, name, DType::kF32));
  }
  return Status();
}

}  // namespace ting
