// src/passes/precision/store_decoder_memory.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/precision/store_decoder_memory.h"

#include <algorithm>

namespace ting {

void StoreDecoderMemory(Graph& graph, DType storage) {
  if (storage == DType::kF32) return;
  for (const Node& node : graph.nodes) {
    if (node.op == "cross_attention") graph.values[node.inputs[1]].type.dtype = storage;
  }
  // The graph that makes them is one linear, whose result is the graph's.
  if (graph.nodes.size() != 1 || graph.nodes[0].op != "linear" || !graph.name.starts_with("cross_")) return;
  graph.values[graph.nodes[0].outputs[0]].type.dtype = storage;
  graph.nodes[0].attributes.Set("stored", int64_t{1});
}

}  // namespace ting
