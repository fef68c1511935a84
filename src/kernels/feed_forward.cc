// src/kernels/feed_forward.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/feed_forward.h"

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"

namespace ting {

Result<FeedForwardParams> ParseFeedForward(const OpDesc& desc) {
  FeedForwardParams params;
  TING_ASSIGN_OR_RETURN(params.w1, GetLinear(desc, "w1", -1, -1));
  params.D = params.w1.K();
  params.F = params.w1.N();
  TING_ASSIGN_OR_RETURN(params.w2, GetLinear(desc, "w2", params.D, params.F));
  TING_ASSIGN_OR_RETURN(params.norm, GetNorm(desc, "norm", params.D));
  TING_ASSIGN_OR_RETURN(params.post, GetNorm(desc, "post", params.D));
  TING_ASSIGN_OR_RETURN(params.activation, ReadActivation(desc, Activation::kSwish));
  TING_ASSIGN_OR_RETURN(const double residual, ReadNumber(desc, "residual", 0));
  params.residual = static_cast<float>(residual);
  return params;
}

}  // namespace ting
