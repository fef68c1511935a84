// src/kernels/conv_module.h
// SPDX-License-Identifier: Apache-2.0
//
// conv_module: h = norm(x); g = GLU(Wp1 h + b1); c = depthwise(g) + bd; c = conv_norm(c); y = [residual] x + Wp2
// swish(c) + b2 GLU(a) = a[:D] * sigmoid(a[D:]). Depthwise: c_t = sum_k dw[k] * g_{t + k - left}, within the row's
// sequence:
//   causal: left = K - 1, and a row before the sequence's start is GLU(b1) (WeNet pads before pointwise_conv1);
//   symmetric (K odd): left = (K - 1) / 2, and rows outside the sequence are 0.
// Inputs     x f32 [R, D]            Outputs  y f32 [R, D]
// Weights    pw1.w [2D, D], pw1.b; dw.w [K, D] (tap-major: dw.w[k, d], from PyTorch's [D, 1, K]), dw.b [D];
//            pw2.w [D, D], pw2.b; conv_norm.gamma, conv_norm.beta [D], for batch_norm also conv_norm.mean and
//            conv_norm.var [D]; optional norm.gamma, norm.beta
// Attributes causal (0), conv_norm = layer_norm | batch_norm | none (batch_norm folded into dw), residual (0 or 1),
//            activation (swish), norm_eps (1e-5, of both norms)
// Aliasing   y must not be x
// Reference  WeNet ConvolutionModule
#pragma once

#include "kernels/params.h"

namespace ting {

enum class ConvNorm { kNone, kLayerNorm, kBatchNorm };

struct ConvModuleParams {
  int64_t D = 0;
  int taps = 0;
  bool causal = false;
  bool residual = false;
  Activation activation = Activation::kSwish;
  NormParams norm;
  ConvNorm conv_norm = ConvNorm::kNone;
  WeightView gamma, beta, mean, var;  // of conv_norm
  float eps = 1e-5F;
  LinearParams pw1, pw2;
  WeightView dw, dw_bias;
  int left() const { return causal ? taps - 1 : (taps - 1) / 2; }
};
Result<ConvModuleParams> ParseConvModule(const OpDesc& desc);

}  // namespace ting
