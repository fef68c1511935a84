// src/kernels/ref/ref_call.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/ref/ref_call.h"

#include <algorithm>

namespace ting::ref {

int64_t LongestSequence(const RowSet* rows) {
  int64_t longest = 0;
  for (int b = 0; rows != nullptr && b < rows->num_sequences(); ++b) {
    longest = std::max<int64_t>(longest, rows->length(b));
  }
  return longest;
}

Status RefKernel::CheckCounts(const KernelContext& context, size_t inputs, size_t outputs) const {
  if (context.inputs.size() == inputs && context.outputs.size() == outputs) return Status();
  return InvalidArgument("{}: got {} inputs and {} outputs, expected {} and {}", where_, context.inputs.size(),
                         context.outputs.size(), inputs, outputs);
}

Status RefKernel::CheckTensor(const char* role, size_t index, const TensorView& view, DType dtype,
                              const Shape& shape) const {
  bool same = view.dtype == dtype && view.shape.rank() == shape.rank();
  for (int axis = 0; same && axis < shape.rank(); ++axis) {
    same = view.shape[axis] >= 0 && (shape[axis] < 0 || view.shape[axis] == shape[axis]);
  }
  if (same) return Status();
  return InvalidArgument("{}: {} {} is {} {}, expected {} {} (-1: any)", where_, role, index, DTypeName(view.dtype),
                         view.shape.ToString(), DTypeName(dtype), shape.ToString());
}

Status RefKernel::CheckInput(const KernelContext& context, size_t index, DType dtype, const Shape& shape) const {
  return CheckTensor("input", index, context.inputs[index], dtype, shape);
}

Status RefKernel::CheckOutput(const KernelContext& context, size_t index, DType dtype, const Shape& shape) const {
  return CheckTensor("output", index, context.outputs[index], dtype, shape);
}

Status RefKernel::CheckRowsToRows(const KernelContext& context, int64_t in, int64_t out) const {
  TING_RETURN_IF_ERROR(CheckCounts(context, 1, 1));
  TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kF32, {-1, in}));
  return CheckOutput(context, 0, DType::kF32, {context.inputs[0].rows(), out});
}

Result<const RowSet*> RefKernel::RequireRowSet(const KernelContext& context, size_t index) const {
  const RowSet* rows = RowSetOrNull(context, index);
  if (rows == nullptr) return InvalidArgument("{}: input {} needs a row set, but has none", where_, index);
  if (rows->num_rows() != context.inputs[index].rows()) {
    return InvalidArgument("{}: input {} is {}, but its row set has {} rows", where_, index,
                           context.inputs[index].shape.ToString(), rows->num_rows());
  }
  return rows;
}

}  // namespace ting::ref
