// src/passes/pass_manager.h
// SPDX-License-Identifier: Apache-2.0
//
// Runs the optimising passes in their order. Each is timed, can be switched off by name, and is followed by the
// verifier: a pass that breaks a graph is found at once, under its own name.
#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

struct Pass {
  const char* name;
  Status (*run)(Graph& graph, WeightStore& weights);
};

// The passes that make a module graph fast, in order. Every backend runs their result.
std::span<const Pass> OptimizePasses();

struct PassTime {
  std::string pass;
  double ms = 0;
};

struct PassOptions {
  std::set<std::string> disabled;  // names; an unknown one is refused
};

// Optimises every graph of the module and drops the weights that nothing uses any more.
Status Optimize(Module& module, const PassOptions& options, std::vector<PassTime>* times);
inline Status Optimize(Module& module) { return Optimize(module, {}, nullptr); }

}  // namespace ting
