// src/kernels/ref/ref_call.h
// SPDX-License-Identifier: Apache-2.0
//
// The outside of a reference kernel: its message prefix, the checks of a call's tensors, and its workspace.
#pragma once

#include <string>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "kernels/kernel.h"

namespace ting::ref {

// Hands out typed arrays one after the other. With a null base it only counts, so that one Plan function of a kernel
// gives both the size and, in Run, the pointers.
class Workspace {
 public:
  explicit Workspace(std::byte* base) : base_(base) {}
  template <typename T>
  T* Take(int64_t count) {
    T* at = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += AlignUp(static_cast<size_t>(count) * sizeof(T));
    return at;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  size_t bytes_ = 0;
};

// Rows of an input, 0 if there is no such input (Run will say so).
inline int64_t RowsOf(const KernelContext& context, size_t input) {
  return input < context.inputs.size() ? context.inputs[input].shape[0] : 0;
}
inline const RowSet* RowSetOrNull(const KernelContext& context, size_t input) {
  return input < context.input_rows.size() ? context.input_rows[input] : nullptr;
}
inline StepOptions OptionsOf(const KernelContext& context) {
  return context.options != nullptr ? *context.options : StepOptions();
}
int64_t LongestSequence(const RowSet* rows);  // 0 for null

// A kernel that names its node in every message.
class RefKernel : public Kernel {
 protected:
  explicit RefKernel(const OpDesc& desc) : where_("node " + desc.node + " (" + desc.op + ")") {}
  const std::string& where() const { return where_; }

  Status CheckCounts(const KernelContext& context, size_t inputs, size_t outputs) const;
  // -1 in `shape`: any size.
  Status CheckInput(const KernelContext& context, size_t index, DType dtype, const Shape& shape) const;
  Status CheckOutput(const KernelContext& context, size_t index, DType dtype, const Shape& shape) const;
  // x [rows, in] and y [rows, out], both f32, and nothing else: what most ops take.
  Status CheckRowsToRows(const KernelContext& context, int64_t in, int64_t out) const;
  // The row set of an input, which must be there and have as many rows as the input.
  Result<const RowSet*> RequireRowSet(const KernelContext& context, size_t index) const;

 private:
  Status CheckTensor(const char* role, size_t index, const TensorView& view, DType dtype, const Shape& shape) const;
  std::string where_;
};

}  // namespace ting::ref
