// src/kernels/ref/linear.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.h"

#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_math.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

class LinearOp : public RefKernel {
 public:
  LinearOp(const OpDesc& desc, const LinearOpParams& params)
      : RefKernel(desc), linear_(params.linear), activation_(params.activation) {}

  size_t WorkspaceBytes(const KernelContext&) const override { return linear_.ScratchSize() * sizeof(double); }

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(CheckRowsToRows(context, linear_.K(), linear_.N()));
    float* y = context.outputs[0].as<float>();
    const int64_t rows = context.inputs[0].rows();
    linear_.Apply(context.inputs[0].as<float>(), rows, y, reinterpret_cast<double*>(context.workspace));
    ActivateAll(activation_, y, rows * linear_.N());
    return Status();
  }

 private:
  Linear linear_;
  Activation activation_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> MakeLinear(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const LinearOpParams params, ParseLinear(desc));
  return std::unique_ptr<Kernel>(new LinearOp(desc, params));
}

}  // namespace ting::ref
