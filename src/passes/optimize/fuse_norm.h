// src/passes/optimize/fuse_norm.h
// SPDX-License-Identifier: Apache-2.0
//
// fuse_pre_norm:   n = layer_norm(x); y = op(n, …)   ->  y = op(x, …) [norm.gamma, norm.beta]
//                  for every op with norm slots, as its first input; n has no other use and op no norm yet.
// fuse_post_norm:  f = feed_forward(x); y = layer_norm(f)   ->  y = feed_forward(x) [post.gamma, post.beta]
//                  f has no other use and no post norm yet; both eps equal. Runs after fuse_residual.
// Numerics: none; the row is normalised where it is used instead of in a pass over memory of its own.
#pragma once

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

Status FusePreNorm(Graph& graph, WeightStore& weights);
Status FusePostNorm(Graph& graph, WeightStore& weights);

}  // namespace ting
