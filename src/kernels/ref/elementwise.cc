// src/kernels/ref/elementwise.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise.h"

#include "kernels/attribute_reader.h"
#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

class Add : public RefKernel {
 public:
  Add(const OpDesc& desc, double scale) : RefKernel(desc), scale_(scale) {}

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(CheckCounts(context, 2, 1));
    TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kF32, {-1, -1}));
    TING_RETURN_IF_ERROR(CheckInput(context, 1, DType::kF32, context.inputs[0].shape));
    TING_RETURN_IF_ERROR(CheckOutput(context, 0, DType::kF32, context.inputs[0].shape));
    const float* a = context.inputs[0].as<float>();
    const float* b = context.inputs[1].as<float>();
    float* y = context.outputs[0].as<float>();
    for (int64_t i = 0; i < context.inputs[0].num_elements(); ++i) y[i] = static_cast<float>(a[i] + scale_ * b[i]);
    return Status();
  }

 private:
  double scale_;
};

class AddPositions : public RefKernel {
 public:
  explicit AddPositions(const OpDesc& desc) : RefKernel(desc) {}

  // One row of the table at a time: y may be x, so it cannot be written to y first.
  size_t WorkspaceBytes(const KernelContext& context) const override {
    return context.inputs.empty() ? 0 : static_cast<size_t>(context.inputs[0].shape[1]) * sizeof(float);
  }

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(CheckCounts(context, 1, 1));
    TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kF32, {-1, -1}));
    TING_RETURN_IF_ERROR(CheckOutput(context, 0, DType::kF32, context.inputs[0].shape));
    TING_ASSIGN_OR_RETURN(const RowSet* rows, RequireRowSet(context, 0));
    const int64_t D = context.inputs[0].shape[1];
    auto* table_row = reinterpret_cast<float*>(context.workspace);
    for (int b = 0; b < rows->num_sequences(); ++b) {
      for (int64_t p = 0; p < rows->length(b); ++p) {
        const int64_t at = (rows->begin(b) + p) * D;
        PositionRow(p, D, table_row);
        for (int64_t d = 0; d < D; ++d) {
          context.outputs[0].as<float>()[at + d] = context.inputs[0].as<float>()[at + d] + table_row[d];
        }
      }
    }
    return Status();
  }
};

}  // namespace

Result<std::unique_ptr<Kernel>> MakeAdd(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const double scale, ReadNumber(desc, "scale", 1));
  return std::unique_ptr<Kernel>(new Add(desc, scale));
}

Result<std::unique_ptr<Kernel>> MakeAddPositions(const OpDesc& desc) {
  return std::unique_ptr<Kernel>(new AddPositions(desc));
}

}  // namespace ting::ref
