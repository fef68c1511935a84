// src/passes/optimize/fold_batch_norm.h
// SPDX-License-Identifier: Apache-2.0
//
// conv_module {conv_norm = batch_norm} [dw, conv_norm.*]  ->  conv_module {conv_norm = none} [dw', dw.b']
//   with s = gamma / sqrt(var + eps):  dw'[k, d] = dw[k, d] s[d],  b'[d] = (b[d] - mean[d]) s[d] + beta[d]
// Numerics: one rounding more a weight. Fires on every batch-normed conv_module.
#pragma once

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

Status FoldBatchNorm(Graph& graph, WeightStore& weights);

}  // namespace ting
