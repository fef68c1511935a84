// src/passes/optimize/fuse_residual.h
// SPDX-License-Identifier: Apache-2.0
//
// f = op(x, …); y = add(x, f) {scale = s}   ->   y = op(x, …) {residual = s}
// for every op with attribute `residual` that has none yet; f has no other use. s must be 1 but for feed_forward.
// Numerics: none. Runs after fuse_pre_norm, which makes op's input the x of the sum.
#pragma once

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

Status FuseResidual(Graph& graph, WeightStore& weights);

}  // namespace ting
