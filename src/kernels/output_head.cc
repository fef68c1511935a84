// src/kernels/output_head.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/output_head.h"

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"

namespace ting {

Result<OutputHeadParams> ParseOutputHead(const OpDesc& desc) {
  OutputHeadParams params;
  TING_ASSIGN_OR_RETURN(params.head, GetLinear(desc, "head", -1, -1));
  TING_ASSIGN_OR_RETURN(params.norm, GetNorm(desc, "norm", params.head.K()));
  TING_ASSIGN_OR_RETURN(params.blank, ReadInt(desc, "blank", -1));
  if (params.blank < -1 || params.blank >= params.head.N()) {
    return InvalidArgument("node {} ({}): attribute blank = {} is no row of head.w {}", desc.node, desc.op,
                           params.blank, params.head.weight.shape.ToString());
  }
  return params;
}

}  // namespace ting
