// src/kernels/embed.h
// SPDX-License-Identifier: Apache-2.0
//
// embed: y_r = table[tokens_r] * scale + PE(positions_r).
// Inputs     tokens s32 [U], positions s32 [U]           Outputs  y f32 [U, D]
// Weights    table [V, D] row-major, f32 or bf16          Attributes scale (sqrt(D) in WeNet)
// Refuses    a token outside [0, V): InvalidArgument
#pragma once

#include "kernels/params.h"

namespace ting {

struct EmbedParams {
  WeightView table;
  float scale = 1;
};
Result<EmbedParams> ParseEmbed(const OpDesc& desc);

}  // namespace ting
