// src/passes/precision/pack_weights.h
// SPDX-License-Identifier: Apache-2.0
//
// Assigns the storage type: every matrix that a product reads (slots ending in ".w" of the linears below) goes to
// panel16 in f32, for bf16x1 bf16, for bf16x3 bf16x2 or for int16 s16 or s8x2; the rest (norms, biases, depthwise taps,
// embeddings, the 1-channel first convolution) stays row-major f32. The position projection pos.w stays f32 in every
// precision: it is used once a table, and its error would be in every score. Runs after all optimising passes; a second
// run may change the type. Numerics: bf16 rounds each weight to nearest even, bf16x2 what that leaves once more (2^-17
// of it), s16 and s8x2 to a multiple of its output's factor; sums beyond 32 terms, norms, softmax and scores stay f32.
#pragma once

#include "graph/graph.h"
#include "ting/options.h"
#include "ting/status.h"

namespace ting {

// `integers` is the type of int16: s16, or s8x2 where the products are by AMX.
Status PackWeights(Module& module, Precision precision, DType integers = DType::kS16);

}  // namespace ting
