// src/kernels/layer_norm.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/layer_norm.h"

#include "base/status_macros.h"

namespace ting {

Result<NormParams> ParseLayerNorm(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(NormParams params, GetNorm(desc, "norm", -1));
  if (!params.present) {
    return InvalidArgument("node {} ({}): weights norm.gamma and norm.beta are missing", desc.node, desc.op);
  }
  return params;
}

}  // namespace ting
