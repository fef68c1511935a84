// src/graph/verifier.h
// SPDX-License-Identifier: Apache-2.0
//
// Says whether a graph is well formed: single assignment, definition before use, known ops with the right number
// and types of inputs, known attributes and weight slots, weights that exist, and output types that follow from
// the inputs. Runs after each pass and on every graph that comes from a file.
#pragma once

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

Status VerifyGraph(const Graph& graph, const WeightStore& weights);
Status VerifyModule(const Module& module);

}  // namespace ting
