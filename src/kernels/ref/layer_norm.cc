// src/kernels/ref/layer_norm.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/layer_norm.h"

#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_math.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

class LayerNorm : public RefKernel {
 public:
  LayerNorm(const OpDesc& desc, const NormParams& params) : RefKernel(desc), params_(params) {}

  Status Run(const KernelContext& context) override {
    const int64_t D = params_.gamma.shape[0];
    TING_RETURN_IF_ERROR(CheckRowsToRows(context, D, D));
    NormRows(params_, context.inputs[0].as<float>(), context.inputs[0].rows(), D, context.outputs[0].as<float>());
    return Status();
  }

 private:
  NormParams params_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> MakeLayerNorm(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const NormParams params, ParseLayerNorm(desc));
  return std::unique_ptr<Kernel>(new LayerNorm(desc, params));
}

}  // namespace ting::ref
