// src/kernels/embed.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/embed.h"

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"

namespace ting {

Result<EmbedParams> ParseEmbed(const OpDesc& desc) {
  EmbedParams params;
  TING_ASSIGN_OR_RETURN(params.table, GetMatrix(desc, "table", -1, -1));
  if (params.table.layout != Layout::kRowMajor ||
      (params.table.dtype != DType::kF32 && params.table.dtype != DType::kBF16)) {
    return InvalidArgument(
        "node {} ({}): weight table {} must be f32 or bf16 in row-major order: its rows are looked up", desc.node,
        desc.op, params.table.shape.ToString());
  }
  TING_ASSIGN_OR_RETURN(const double scale, ReadNumber(desc, "scale", 1));
  params.scale = static_cast<float>(scale);
  return params;
}

}  // namespace ting
