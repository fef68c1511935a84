// src/kernels/layer_norm.h
// SPDX-License-Identifier: Apache-2.0
//
// layer_norm: y = LayerNorm(x).
// Inputs     x f32 [R, D]            Outputs  y f32 [R, D]
// Weights    norm.gamma, norm.beta [D]
// Attributes norm_eps (1e-5)
// Numerics   two-pass variance in f32
// Reference  torch.nn.LayerNorm
#pragma once

#include "kernels/params.h"

namespace ting {

Result<NormParams> ParseLayerNorm(const OpDesc& desc);

}  // namespace ting
