// src/kernels/linear.h
// SPDX-License-Identifier: Apache-2.0
//
// linear: y = activation(W x + b).
// Inputs     x f32 [R, K]            Outputs  y f32 [R, N]
// Weights    linear.w [N, K] f32, bf16, bf16x2, s16 or s8x2, row-major or panel16; linear.b [N]
// Attributes activation (none)
// Numerics   f32: f32 sums. bf16: x is rounded to bf16, products are summed in f32. A row's bits do not
//            depend on the other rows.
// Reference  torch.nn.Linear
#pragma once

#include "kernels/params.h"

namespace ting {

struct LinearOpParams {
  LinearParams linear;
  Activation activation = Activation::kNone;
};
Result<LinearOpParams> ParseLinear(const OpDesc& desc);

}  // namespace ting
