// src/passes/optimize/fold_attention.h
// SPDX-License-Identifier: Apache-2.0
//
// rel_attention [q, pos_u, pos_v]  ->  rel_attention {folded = 1} [q', key_bias]
//   q'.w = q.w / sqrt(Dh),  q'.b = (q.b + u) / sqrt(Dh),  key_bias = (v - u) / sqrt(Dh)
// self_attention, tree_attention, cross_attention [q]  ->  the same with q' = q / sqrt(Dh), folded = 1.
// Why: WeNet has no rel_shift, so ((q + u)·k + (q + v)·P) = (q + u)·(k + P) + (v - u)·P: plain attention over
// keys k + P with a constant a key. Numerics: one rounding more a weight (none where Dh is a power of four).
// Must not fire on packed qkv; runs before pack_qkv.
#pragma once

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

Status FoldAttention(Graph& graph, WeightStore& weights);

}  // namespace ting
