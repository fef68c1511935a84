// src/runtime/work_ranges.h
// SPDX-License-Identifier: Apache-2.0
//
// How profilers and traces are told whose work a thread queues: a step of a graph, and within it one node after the
// other. Other work of a device (features, searches) is a step of one node.
#pragma once

#include <string>
#include <vector>

#include "kernels/work.h"

namespace ting {

struct NodeLabel {
  std::string node, op, implementation;
  std::string text;  // "%b0.attn rel_attention cuda.hopper", for tools that take one name
};

struct StepLabels {
  std::string graph;
  std::vector<NodeLabel> nodes;  // in execution order
};

using StepWork = std::vector<std::vector<KernelWork>>;  // by node; may be empty: not counted

inline NodeLabel MakeNodeLabel(const std::string& node, const std::string& op, const std::string& implementation) {
  return {node, op, implementation, "%" + node + " " + op + " " + implementation};
}

}  // namespace ting
