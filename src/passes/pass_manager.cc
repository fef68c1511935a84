// src/passes/pass_manager.cc
// SPDX-License-Identifier: Apache-2.0
#include "passes/pass_manager.h"

#include <algorithm>
#include <chrono>

#include "base/status_macros.h"
#include "graph/verifier.h"
#include "passes/optimize/fold_attention.h"
#include "passes/optimize/fold_batch_norm.h"
#include "passes/optimize/fuse_norm.h"
#include "passes/optimize/fuse_residual.h"
#include "passes/optimize/pack_qkv.h"

namespace ting {
namespace {

constexpr Pass kPasses[] = {
    // Constants into constants. fold_attention scales q's rows, so it comes before they are packed.
    {"fold_batch_norm", FoldBatchNorm},
    {"fold_attention", FoldAttention},
    {"pack_qkv", PackQkv},
    // Norms into the op behind them, then the residual sum around that op (which needs op(x), not op(norm(x))),
    // then the norm that follows the sum.
    {"fuse_pre_norm", FusePreNorm},
    {"fuse_residual", FuseResidual},
    {"fuse_post_norm", FusePostNorm},
};

void DropUnusedWeights(Module& module) {
  std::set<std::string> used;
  for (const auto& [name, graph] : module.graphs) {
    for (const Node& node : graph.nodes) {
      for (const auto& [slot, weight] : node.weights) used.insert(weight);
    }
  }
  std::vector<std::string> unused;
  for (const auto& [name, weight] : module.weights.all()) {
    if (!used.contains(name)) unused.push_back(name);
  }
  for (const std::string& name : unused) module.weights.Erase(name);
}

Status CheckNames(const PassOptions& options) {
  for (const std::string& name : options.disabled) {
    const bool known =
        std::any_of(std::begin(kPasses), std::end(kPasses), [&](const Pass& p) { return name == p.name; });
    if (!known) return InvalidArgument("there is no pass named {}", name);
  }
  return Status();
}

}  // namespace

std::span<const Pass> OptimizePasses() { return kPasses; }

Status Optimize(Module& module, const PassOptions& options, std::vector<PassTime>* times) {
  TING_RETURN_IF_ERROR(CheckNames(options));
  TING_RETURN_IF_ERROR(VerifyModule(module));
  for (const Pass& pass : kPasses) {
    if (options.disabled.contains(pass.name)) continue;
    const auto start = std::chrono::steady_clock::now();
    const std::string context = std::string("pass ") + pass.name;
    for (auto& [name, graph] : module.graphs) {
      TING_RETURN_IF_ERROR(pass.run(graph, module.weights).WithContext(context));
      Compact(graph);
      TING_RETURN_IF_ERROR(VerifyGraph(graph, module.weights).WithContext(context));
    }
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    if (times != nullptr) times->push_back({pass.name, elapsed.count()});
  }
  DropUnusedWeights(module);
  return Status();
}

}  // namespace ting
