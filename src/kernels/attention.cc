// src/kernels/attention.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.h"

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"

namespace ting {
namespace {

// Attributes, norm and output matrix, which all four have; D comes from o.w.
Result<AttentionParams> ParseCommon(const OpDesc& desc) {
  AttentionParams params;
  TING_ASSIGN_OR_RETURN(params.o, GetLinear(desc, "o", -1, -1));
  params.D = params.o.N();
  if (params.o.K() != params.D) {
    return InvalidArgument("node {} ({}): weight o.w is {}, expected a square matrix", desc.node, desc.op,
                           params.o.weight.shape.ToString());
  }
  TING_ASSIGN_OR_RETURN(const int64_t heads, ReadInt(desc, "heads", 1));
  if (heads < 1 || heads > params.D || params.D % heads != 0) {
    return InvalidArgument("node {} ({}): attribute heads = {} does not divide the width {} of o.w", desc.node, desc.op,
                           heads, params.D);
  }
  params.heads = static_cast<int>(heads);
  TING_ASSIGN_OR_RETURN(params.residual, ReadFlag(desc, "residual"));
  TING_ASSIGN_OR_RETURN(params.folded, ReadFlag(desc, "folded"));
  TING_ASSIGN_OR_RETURN(params.norm, GetNorm(desc, "norm", params.D));
  return params;
}

Status ParseQkv(const OpDesc& desc, AttentionParams& params) {
  params.packed = desc.HasWeight("qkv.w");
  if (params.packed) {
    TING_ASSIGN_OR_RETURN(params.qkv, GetLinear(desc, "qkv", 3 * params.D, params.D));
    return Status();
  }
  TING_ASSIGN_OR_RETURN(params.q, GetLinear(desc, "q", params.D, params.D));
  TING_ASSIGN_OR_RETURN(params.k, GetLinear(desc, "k", params.D, params.D));
  TING_ASSIGN_OR_RETURN(params.v, GetLinear(desc, "v", params.D, params.D));
  return Status();
}

Status ParseRelative(const OpDesc& desc, AttentionParams& params) {
  if (desc.HasWeight("pos.b")) {
    return InvalidArgument("node {} ({}): weight pos.b is given, but the position matrix has no bias", desc.node,
                           desc.op);
  }
  params.relative = true;
  TING_ASSIGN_OR_RETURN(params.pos.weight, GetMatrix(desc, "pos.w", params.D, params.D));
  if (params.folded) {
    TING_ASSIGN_OR_RETURN(params.key_bias, GetVector(desc, "key_bias", params.D));
    return Status();
  }
  TING_ASSIGN_OR_RETURN(params.pos_u, GetVector(desc, "pos_u", params.D));
  TING_ASSIGN_OR_RETURN(params.pos_v, GetVector(desc, "pos_v", params.D));
  return Status();
}

}  // namespace

Result<AttentionParams> ParseSelfAttention(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(AttentionParams params, ParseCommon(desc));
  TING_RETURN_IF_ERROR(ParseQkv(desc, params));
  if (desc.op == "rel_attention") TING_RETURN_IF_ERROR(ParseRelative(desc, params));
  return params;
}

Result<AttentionParams> ParseTreeAttention(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(AttentionParams params, ParseCommon(desc));
  TING_RETURN_IF_ERROR(ParseQkv(desc, params));
  return params;
}

Result<AttentionParams> ParseCrossAttention(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(AttentionParams params, ParseCommon(desc));
  TING_ASSIGN_OR_RETURN(params.q, GetLinear(desc, "q", params.D, params.D));
  TING_ASSIGN_OR_RETURN(params.key_column, ReadInt(desc, "key_column", 0));
  if (params.key_column < 0) {
    return InvalidArgument("node {} ({}): attribute key_column = {} is negative", desc.node, desc.op,
                           params.key_column);
  }
  return params;
}

KeyRange VisibleKeys(const StepOptions& options, int64_t i, int64_t T) {
  if (options.chunk_frames <= 0) return {0, T};
  const int64_t chunk = options.chunk_frames;
  KeyRange range;
  range.last = std::min((i / chunk + 1) * chunk, T);
  if (options.num_left_chunks >= 0) {
    range.first = std::max<int64_t>((i / chunk - options.num_left_chunks) * chunk, 0);
  }
  return range;
}

}  // namespace ting
