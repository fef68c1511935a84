// src/passes/rewrite.h
// SPDX-License-Identifier: Apache-2.0
//
// The few questions and edits that rewriting passes share.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

// Index of the node that defines `value`; none for graph inputs.
std::optional<size_t> DefiningNode(const Graph& graph, ValueId value);

// Makes `node` define `value` (until now another node's output) instead of its own, under the name the node had, so
// that its weights keep their short names. A graph's output keeps its name.
void TakeOverOutput(Graph& graph, Node& node, ValueId value);

// Does the op of `node` have this weight slot or attribute?
bool OpHasSlot(const Node& node, const std::string& slot);
bool OpHasAttribute(const Node& node, const std::string& attribute);

// A row-major f32 weight for reading or for writing in place. Optimising passes run before weights are packed.
Result<std::span<const float>> ReadWeight(const WeightStore& weights, const std::string& name);

// A new weight under the default name of (graph, node, slot), unused so far; sets the node's slot to it.
Status SetWeight(Graph& graph, Node& node, const std::string& slot, const Shape& shape, std::span<const float> values,
                 WeightStore& weights);

}  // namespace ting
