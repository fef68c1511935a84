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

// Zeros the partner of an odd last value in rows that a bf16 product will read.
inline void ZeroPairTail(const PackedMatrix& matrix, std::byte* rows, int64_t count) {
  if (matrix.padded_K() == matrix.K()) return;
  for (int64_t r = 0; r < count; ++r) reinterpret_cast<uint16_t*>(rows + r * matrix.row_bytes())[matrix.K()] = 0;
}

}  // namespace ting::cpu
