// src/kernels/output_head.h
// SPDX-License-Identifier: Apache-2.0
//
// The three ways to read a vocabulary layer: logits = W h + b (blank's logit minus blank_penalty where attribute
// blank >= 0), h = norm(x), logp = log_softmax(logits) over V.
// log_softmax       Inputs x f32 [R, D].  Outputs logp f32 [R, V].
// log_softmax_topk  Inputs x f32 [R, D].  Outputs logp f32 [R, k], ids s32 [R, k]; k <= V is the outputs' width.
//                   Descending; equal log-probabilities: lower id first. The [R, V] matrix never exists.
// target_logp       Inputs x f32 [U, D]; rows s32 [G] (ascending), ids s32 [G].  Outputs logp f32 [G]:
//                   logp_g = log_softmax(logits[rows_g])[ids_g]. Refuses ids outside [0, V), rows outside [0, U).
// Weights    head.w [V, D], head.b [V]; optional norm.gamma, norm.beta
// Attributes blank (-1), norm_eps
// Numerics   as `linear`; maximum and sum of exponentials in f32 over at most 10^5 terms
#pragma once

#include "kernels/params.h"

namespace ting {

struct OutputHeadParams {
  NormParams norm;
  LinearParams head;
  int64_t blank = -1;
};
Result<OutputHeadParams> ParseOutputHead(const OpDesc& desc);

}  // namespace ting
