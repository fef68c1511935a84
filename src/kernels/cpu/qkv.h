// src/kernels/cpu/qkv.h
// SPDX-License-Identifier: Apache-2.0
//
// What the attentions share besides the heads.
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/packed_matrix.h"

namespace ting::cpu {

// Rows q, then k, then v as one matrix, whether they come packed or apart.
Result<PackedMatrix> PackQkv(const AttentionParams& params, const IsaTable& isa);
Status CheckHeadWidth(const OpDesc& desc, const AttentionParams& params);

}  // namespace ting::cpu
