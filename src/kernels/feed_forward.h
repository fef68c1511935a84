// src/kernels/feed_forward.h
// SPDX-License-Identifier: Apache-2.0
//
// feed_forward: h = norm(x);  f = W2 activation(W1 h + b1) + b2;  y = post(residual == 0 ? f : x + residual * f).
// Inputs     x f32 [R, D]            Outputs  y f32 [R, D]
// Weights    w1.w [F, D], w1.b [F], w2.w [D, F], w2.b [D]; optional norm.gamma, norm.beta (before) and
//            post.gamma, post.beta (after the residual sum) [D]
// Attributes activation (swish), residual (0; a conformer's half step is 0.5), norm_eps (1e-5)
// Aliasing   y must not be x
// Numerics   as `linear`; norms and activation in f32
// Reference  WeNet PositionwiseFeedForward, conformer and transformer layers
#pragma once

#include "kernels/params.h"

namespace ting {

struct FeedForwardParams {
  int64_t D = 0, F = 0;
  NormParams norm, post;
  LinearParams w1, w2;
  Activation activation = Activation::kSwish;
  float residual = 0;
};
Result<FeedForwardParams> ParseFeedForward(const OpDesc& desc);

}  // namespace ting
