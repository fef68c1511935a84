// src/kernels/linear.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.h"

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"

namespace ting {

Result<LinearOpParams> ParseLinear(const OpDesc& desc) {
  LinearOpParams params;
  TING_ASSIGN_OR_RETURN(params.linear, GetLinear(desc, "linear", -1, -1));
  TING_ASSIGN_OR_RETURN(params.activation, ReadActivation(desc, Activation::kNone));
  return params;
}

}  // namespace ting
