// src/kernels/cuda/linear.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.h"

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"
#include "kernels/cuda/kernels.h"

namespace ting::cuda {
namespace {

// f32 in; out f32, or with attribute stored = 1 (pass store_decoder_memory) the storage type.
class Linear : public CudaKernel {
 public:
  Linear(RowProduct product, Activation activation, CudaBackend& backend)
      : product_(std::move(product)), activation_(activation), backend_(backend) {}

 protected:
  Status Step(const KernelContext& context, Carver& carver) override {
    const RowRange range = RangeOf(context);
    auto* y = context.outputs[0].as<float>();
    TING_RETURN_IF_ERROR(product_.Run(context, context.inputs[0].data, nullptr, y, range, carver));
    if (context.outputs[0].dtype != DType::kF32 || activation_ == Activation::kNone || context.workspace == nullptr)
      return Status();
    TING_ASSIGN_OR_RETURN(const float* zeros, backend_.Zeros(product_.N()));
    return ActivateRows(DType::kF32, y, zeros, activation_, range, product_.N(), y, StreamOf(context).handle());
  }

 private:
  RowProduct product_;
  Activation activation_;
  CudaBackend& backend_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateLinear(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const LinearOpParams params, ParseLinear(desc));
  RowProductSpec spec;
  spec.linear = params.linear;
  TING_ASSIGN_OR_RETURN(const bool stored, ReadFlag(desc, "stored"));
  if (stored) spec.output = RowProductSpec::Output::kStored, spec.activation = params.activation;
  TING_ASSIGN_OR_RETURN(RowProduct product, RowProduct::Create(BackendOf(desc), spec, road));
  return std::unique_ptr<Kernel>(std::make_unique<Linear>(std::move(product), params.activation, BackendOf(desc)));
}

}  // namespace ting::cuda
