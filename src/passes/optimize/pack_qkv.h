// src/passes/optimize/pack_qkv.h
// SPDX-License-Identifier: Apache-2.0
//
// attention [q, k, v]  ->  attention [qkv]: one matrix [3D, D] and one bias [3D], rows of q, then k, then v, so
// that one product reads the input once. Missing biases become zeros. Numerics: none.
// Fires on self_, rel_ and tree_attention; cross_attention's k and v are linears of their own.
#pragma once

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

Status PackQkv(Graph& graph, WeightStore& weights);

}  // namespace ting
