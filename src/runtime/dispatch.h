// src/runtime/dispatch.h
// SPDX-License-Identifier: Apache-2.0
//
// Which implementation runs each node of a graph on a device, and why those before it in the device's list do not.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/device.h"
#include "ting/status.h"

namespace ting {

// A node as the kernels of `backend` (Device::backend) see it. Refuses weights that do not exist.
Result<OpDesc> DescribeNode(const Graph& graph, const Node& node, const WeightStore& weights, BackendState* backend);

struct NodeChoice {
  std::string node, op, implementation;  // no implementation: none accepts the node
  std::vector<std::string> refusals;     // "cuda.fused: reason", in the order of the device's list
};
// By node, in execution order. Nothing is created.
Result<std::vector<NodeChoice>> ExplainDispatch(const Graph& graph, const WeightStore& weights, Device& device);

}  // namespace ting
