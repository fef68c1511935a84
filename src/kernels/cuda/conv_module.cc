// src/kernels/cuda/conv_module.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_module.h"

#include <cmath>
#include <vector>

#include "base/status_macros.h"
#include "kernels/cuda/kernels.h"

namespace ting::cuda {
namespace {

class ConvModule : public CudaKernel {
 public:
  ConvModule(RowProduct pw1, RowProduct pw2, const DepthwiseParams& depthwise, bool residual, CudaBackend& backend)
      : pw1_(std::move(pw1)), pw2_(std::move(pw2)), depthwise_(depthwise), residual_(residual), backend_(backend) {}

 protected:
  Status Step(const KernelContext& context, Carver& carver) override {
    const RowRange range = RangeOf(context);
    const auto* x = context.inputs[0].as<float>();
    const int64_t D = pw2_.K(), bytes = range.rows * D * static_cast<int64_t>(backend_.element_bytes());
    void* gated = carver.Take(bytes);
    void* mixed = carver.Take(bytes);
    TING_RETURN_IF_ERROR(pw1_.Run(context, x, nullptr, gated, range, carver));
    if (context.workspace != nullptr) {
      TING_RETURN_IF_ERROR(DepthwiseRows(backend_.storage(), gated, depthwise_, context.device_rows[0], range, D, mixed,
                                         StreamOf(context).handle()));
    }
    return pw2_.Run(context, mixed, residual_ ? x : nullptr, context.outputs[0].data, range, carver);
  }

 private:
  RowProduct pw1_, pw2_;
  DepthwiseParams depthwise_;
  bool residual_;
  CudaBackend& backend_;
};

// What causal padding puts before a sequence: zeros ahead of the first product, so GLU of its bias.
std::vector<float> GluOfBias(const LinearParams& pw1, int64_t D) {
  std::vector<float> edge(D, 0.0F);
  const auto* bias = pw1.bias.as<float>();
  for (int64_t d = 0; bias != nullptr && d < D; ++d) edge[d] = bias[d] / (1.0F + std::exp(-bias[D + d]));
  return edge;
}

Result<DepthwiseParams> Depthwise(const ConvModuleParams& params, CudaBackend& backend) {
  DepthwiseParams depthwise;
  TING_ASSIGN_OR_RETURN(depthwise.taps, backend.Vector(params.dw));
  TING_ASSIGN_OR_RETURN(depthwise.bias, backend.Vector(params.dw_bias));
  depthwise.num_taps = params.taps, depthwise.left = params.left(), depthwise.activation = params.activation;
  const std::string key = fmt::format("{}", params.dw.data);
  if (params.causal) {
    TING_ASSIGN_OR_RETURN(depthwise.edge, backend.Floats(key + ":edge", GluOfBias(params.pw1, params.D)));
  }
  if (params.conv_norm == ConvNorm::kLayerNorm) {
    NormParams norm{true, params.gamma, params.beta, params.eps};
    TING_ASSIGN_OR_RETURN(depthwise.norm, backend.Norm(norm));
  } else if (params.conv_norm == ConvNorm::kBatchNorm) {
    std::vector<float> scale(params.D), shift(params.D);
    for (int64_t d = 0; d < params.D; ++d) {
      scale[d] = params.gamma.as<float>()[d] / std::sqrt(params.var.as<float>()[d] + params.eps);
      shift[d] = params.beta.as<float>()[d] - params.mean.as<float>()[d] * scale[d];
    }
    TING_ASSIGN_OR_RETURN(depthwise.scale, backend.Floats(key + ":scale", scale));
    TING_ASSIGN_OR_RETURN(depthwise.shift, backend.Floats(key + ":shift", shift));
  }
  return depthwise;
}

}  // namespace

Result<std::unique_ptr<Kernel>> CreateConvModule(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const ConvModuleParams params, ParseConvModule(desc));
  CudaBackend& backend = BackendOf(desc);
  RowProductSpec first, second;
  first.linear = params.pw1, first.norm = params.norm, first.output = RowProductSpec::Output::kGlu;
  second.linear = params.pw2, second.x_stored = true;
  second.starts_next = true;  // a feed-forward, whose clusters take longer to be placed than this product takes
  TING_ASSIGN_OR_RETURN(RowProduct pw1, RowProduct::Create(backend, first, road));
  TING_ASSIGN_OR_RETURN(RowProduct pw2, RowProduct::Create(backend, second, road));
  TING_ASSIGN_OR_RETURN(const DepthwiseParams depthwise, Depthwise(params, backend));
  return std::unique_ptr<Kernel>(
      std::make_unique<ConvModule>(std::move(pw1), std::move(pw2), depthwise, params.residual, backend));
}

}  // namespace ting::cuda
