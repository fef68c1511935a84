// src/kernels/conv_module.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_module.h"

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"

namespace ting {
namespace {

Status ParseConvNorm(const OpDesc& desc, ConvModuleParams& params) {
  TING_ASSIGN_OR_RETURN(const std::string word, ReadWord(desc, "conv_norm", "none"));
  if (word == "none") return Status();
  if (word != "layer_norm" && word != "batch_norm") {
    return Unimplemented("node {} ({}): conv_norm {} is unknown; layer_norm, batch_norm and none are supported",
                         desc.node, desc.op, word);
  }
  params.conv_norm = word == "layer_norm" ? ConvNorm::kLayerNorm : ConvNorm::kBatchNorm;
  TING_ASSIGN_OR_RETURN(params.gamma, GetVector(desc, "conv_norm.gamma", params.D));
  TING_ASSIGN_OR_RETURN(params.beta, GetVector(desc, "conv_norm.beta", params.D));
  if (params.conv_norm == ConvNorm::kBatchNorm) {
    TING_ASSIGN_OR_RETURN(params.mean, GetVector(desc, "conv_norm.mean", params.D));
    TING_ASSIGN_OR_RETURN(params.var, GetVector(desc, "conv_norm.var", params.D));
  }
  return Status();
}

Status ParseDepthwise(const OpDesc& desc, ConvModuleParams& params) {
  TING_ASSIGN_OR_RETURN(params.dw, GetMatrix(desc, "dw.w", -1, params.D));
  // Taps are read one by one, never as an operand of a matrix product: no packed and no narrow form.
  if (params.dw.dtype != DType::kF32 || params.dw.layout != Layout::kRowMajor) {
    return InvalidArgument("node {} ({}): weight dw.w {} must be f32 in row-major order", desc.node, desc.op,
                           params.dw.shape.ToString());
  }
  params.taps = static_cast<int>(params.dw.shape[0]);
  if (!params.causal && params.taps % 2 == 0) {
    return InvalidArgument("node {} ({}): weight dw.w {} has an even number of taps, which needs causal = 1", desc.node,
                           desc.op, params.dw.shape.ToString());
  }
  if (desc.HasWeight("dw.b")) {
    TING_ASSIGN_OR_RETURN(params.dw_bias, GetVector(desc, "dw.b", params.D));
  }
  return Status();
}

}  // namespace

Result<ConvModuleParams> ParseConvModule(const OpDesc& desc) {
  ConvModuleParams params;
  TING_ASSIGN_OR_RETURN(params.pw1, GetLinear(desc, "pw1", -1, -1));
  params.D = params.pw1.K();
  TING_ASSIGN_OR_RETURN(params.pw1, GetLinear(desc, "pw1", 2 * params.D, params.D));
  TING_ASSIGN_OR_RETURN(params.pw2, GetLinear(desc, "pw2", params.D, params.D));
  TING_ASSIGN_OR_RETURN(params.causal, ReadFlag(desc, "causal"));
  TING_ASSIGN_OR_RETURN(params.residual, ReadFlag(desc, "residual"));
  TING_ASSIGN_OR_RETURN(params.activation, ReadActivation(desc, Activation::kSwish));
  TING_ASSIGN_OR_RETURN(params.norm, GetNorm(desc, "norm", params.D));
  params.eps = params.norm.eps;
  TING_RETURN_IF_ERROR(ParseDepthwise(desc, params));
  TING_RETURN_IF_ERROR(ParseConvNorm(desc, params));
  return params;
}

}  // namespace ting
