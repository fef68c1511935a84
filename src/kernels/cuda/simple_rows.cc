// src/kernels/cuda/simple_rows.cc
// SPDX-License-Identifier: Apache-2.0
//
// The ops without products: layer_norm, add, add_positions, embed.
#include "base/status_macros.h"
#include "kernels/attribute_reader.h"
#include "kernels/cuda/kernels.h"
#include "kernels/embed.h"
#include "kernels/layer_norm.h"

namespace ting::cuda {
namespace {

// A kernel that is one launch and needs no workspace.
template <typename Body>
class RowsKernel : public Kernel {
 public:
  explicit RowsKernel(Body body) : body_(std::move(body)) {}
  Status Run(const KernelContext& context) override {
    return body_(context, RangeOf(context), context.outputs[0].shape[1], StreamOf(context).handle());
  }

 private:
  Body body_;
};
template <typename Body>
std::unique_ptr<Kernel> Make(Body body) {
  return std::make_unique<RowsKernel<Body>>(std::move(body));
}

Result<const float*> Frequencies(CudaBackend& backend, int64_t D) {
  return backend.Floats(fmt::format("frequencies:{}", D), PositionFrequencies(D));
}

}  // namespace

Result<std::unique_ptr<Kernel>> CreateLayerNorm(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const NormParams params, ParseLayerNorm(desc));
  TING_ASSIGN_OR_RETURN(const DeviceNorm norm, BackendOf(desc).Norm(params));
  return Make([norm](const KernelContext& context, RowRange range, int64_t D, cudaStream_t stream) {
    return NormalizeRows(DType::kF32, context.inputs[0].as<float>(), norm, range, D, context.outputs[0].data, stream);
  });
}

Result<std::unique_ptr<Kernel>> CreateAdd(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const double scale, ReadNumber(desc, "scale", 1));
  return Make([scale](const KernelContext& context, RowRange range, int64_t D, cudaStream_t stream) {
    return AddRows(context.inputs[0].as<float>(), context.inputs[1].as<float>(), static_cast<float>(scale), range, D,
                   context.outputs[0].as<float>(), stream);
  });
}

Result<std::unique_ptr<Kernel>> CreateAddPositions(const OpDesc& desc) {
  CudaBackend& backend = BackendOf(desc);
  return Make([&backend](const KernelContext& context, RowRange range, int64_t D, cudaStream_t stream) -> Status {
    TING_ASSIGN_OR_RETURN(const float* frequencies, Frequencies(backend, D));
    return AddPositions(context.inputs[0].as<float>(), frequencies, context.device_rows[0], range, D,
                        context.outputs[0].as<float>(), stream);
  });
}

Result<std::unique_ptr<Kernel>> CreateEmbed(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const EmbedParams params, ParseEmbed(desc));
  CudaBackend& backend = BackendOf(desc);
  const int64_t V = params.table.shape[0];
  TING_ASSIGN_OR_RETURN(const float* frequencies, Frequencies(backend, params.table.shape[1]));
  TING_ASSIGN_OR_RETURN(const float* table,
                        backend.Floats(fmt::format("{}:table", params.table.data), UnpackMatrix(params.table)));
  return Make([=, scale = params.scale](const KernelContext& context, RowRange range, int64_t D, cudaStream_t stream) {
    return EmbedRows(table, V, context.inputs[0].as<int32_t>(), context.inputs[1].as<int32_t>(), frequencies, scale,
                     range, D, context.outputs[0].as<float>(), stream);
  });
}

}  // namespace ting::cuda
