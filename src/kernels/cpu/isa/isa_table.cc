// src/kernels/cpu/isa/isa_table.cc
// SPDX-License-Identifier: Apache-2.0
//
// Compiled once an instruction set with -DTING_ISA=<name> and that set's flags: all inner loops, and the table that
// names them. No standard library header may be included here (isa.h says why).
#include "kernels/cpu/isa/attention.inc.h"
#include "kernels/cpu/isa/conv.inc.h"
#include "kernels/cpu/isa/gemm.inc.h"
#include "kernels/cpu/isa/rows.inc.h"

#define TING_STRING_OF(x) #x
#define TING_STRING(x) TING_STRING_OF(x)

namespace ting::cpu::TING_ISA {

extern const IsaTable kTable;
const IsaTable kTable = {
    .name = TING_STRING(TING_ISA),
    .lanes = kLanes,
    .max_rows = kMaxRows,
#if defined(__AVX512BF16__)
    .bf16_products = true,
#endif
#if defined(__AMX_BF16__)
    .bf16_tiles = true,
#endif
#if defined(TING_S16)
    .s16_products = true,
#endif
#if defined(TING_S8X2)
    .s8x2_tiles = true,
#endif
    .gemm = Gemm,
    .norm_rows = NormRows,
    .pack_head = PackHead,
    .attention = Attention,
    .tree_row = TreeRow,
    .depthwise = Depthwise,
    .first_conv = FirstConv,
    .reduce = Reduce,
    .add_scaled = AddScaled,
    .add_constant = AddConstant,
    .activate = ActivateRow,
    .peak = Peak,
};

}  // namespace ting::cpu::TING_ISA
