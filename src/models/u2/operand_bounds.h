// src/models/u2/operand_bounds.h
// SPDX-License-Identifier: Apache-2.0
//
// How large a number can become that a GPU keeps in 16 bits: shown from the weights alone, whatever the audio. Such are
// the matrices, the rows that enter a product, and what one product leaves for the next (hidden units; queries, keys
// and values; contexts; the convolutions' channels). Residual sums, scores and logits are f32 and count for nothing.
//
// What keeps the bounds small is LayerNorm: of D numbers normalised to a variance of at most 1, a product with weights
// w gives at most sqrt(D) |w|, whatever they are (Cauchy-Schwarz). Everywhere else it is the sum of |w| times the
// largest input. Activations and softmax make nothing larger.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

struct OperandBound {
  double most = 0;
  std::string place;  // "encoder.b3.ffn": graph and node
};

struct GraphBounds {
  std::vector<double> outputs;  // largest magnitude of each; 0 for integers
  OperandBound operand;         // of the largest operand
};

// `inputs`: largest magnitudes of the graph's f32 inputs by name; pools that nodes write need none. Refuses nodes and
// weights that no kernel would take.
Result<GraphBounds> BoundGraph(const Graph& graph, const WeightStore& weights,
                               const std::map<std::string, double>& inputs);

// Of all graphs of a U2 model: features are logarithms of f32, what the encoder gives goes on to CTC and to the
// memories, and those and the decoders' rows to the rest.
Result<OperandBound> BoundOperands(const Module& module);

}  // namespace ting
