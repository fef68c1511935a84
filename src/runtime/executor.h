// src/runtime/executor.h
// SPDX-License-Identifier: Apache-2.0
//
// Executor: one graph made ready for one device. Create chooses and creates a kernel for each node; Run binds a
// step's rows to the graph's symbols, plans the arena and runs the nodes in order.
// An executor belongs to one caller at a time. Its weights must outlive it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/device.h"
#include "runtime/planner.h"
#include "ting/status.h"

namespace ting {

// What a step gives for one graph input. `rows` names the sequences of its first axis, null where it has none.
struct StepInput {
  TensorView tensor;
  const RowSet* rows = nullptr;
};

// What a step gives back: a view into the executor's arena, valid until its next Run.
struct StepOutput {
  TensorView tensor;
  const RowSet* rows = nullptr;
};

struct NodeTime {
  std::string node, op, implementation;
  int64_t calls = 0;
  double total_ms = 0;
};

class Executor {
 public:
  static Result<std::unique_ptr<Executor>> Create(const Graph& graph, const WeightStore& weights, Device& device);

  // `sizes` binds symbols that no input determines (the top-k width).
  Status Run(std::span<const StepInput> inputs, const std::map<std::string, int64_t>& sizes, const StepOptions& options,
             Stream& stream, std::vector<StepOutput>* outputs);

  void EnableProfile() { profile_ = true; }
  std::vector<NodeTime> Profile() const { return times_; }
  const std::vector<std::string>& refusals() const { return refusals_; }
  const Graph& graph() const { return graph_; }
  size_t arena_bytes() const { return arena_ ? arena_->size() : 0; }

 private:
  Executor(const Graph& graph, Device& device) : graph_(graph), device_(device) {}
  Status CreateKernels(const WeightStore& weights);
  void FindLifetimes();
  Status BindInputs(std::span<const StepInput> inputs, const std::map<std::string, int64_t>& sizes);
  Status BindSymbol(const std::string& symbol, int64_t size);
  Status BindOutputs(size_t node);
  Status DeriveRows(size_t node);
  Status PlanArena(const StepOptions& options, Stream& stream);
  KernelContext ContextOf(size_t node, const StepOptions& options, Stream& stream) const;
  Status RunNodes(const StepOptions& options, Stream& stream);

  Graph graph_;
  Device& device_;
  std::vector<std::unique_ptr<Kernel>> kernels_;
  std::vector<std::string> refusals_;
  bool profile_ = false;
  std::vector<NodeTime> times_;

  // Fixed by the graph: node by node, where its views start in views_/rows_ lists, and each value's last use.
  struct NodeViews {
    std::vector<TensorView> inputs, outputs;
    std::vector<const RowSet*> rows;
    std::byte* workspace = nullptr;
  };
  std::vector<NodeViews> views_;
  std::vector<int> first_use_, last_use_;  // by value; last node + 1 for graph outputs
  std::vector<bool> is_input_;

  // This step's.
  std::map<std::string, int64_t> symbols_;
  std::map<std::string, RowSet> derived_rows_;
  std::vector<TensorView> tensors_;  // by value
  std::vector<const RowSet*> rows_;  // by value
  std::vector<BufferRequest> requests_;
  std::vector<size_t> offsets_;
  std::unique_ptr<DeviceBuffer> arena_;
};

}  // namespace ting
