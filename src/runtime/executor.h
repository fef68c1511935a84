// src/runtime/executor.h
// SPDX-License-Identifier: Apache-2.0
//
// Executor: one graph made ready for one device. Create chooses and creates a kernel for each node; Run binds a
// step's rows to the graph's symbols, plans the arena and runs the nodes in order.
// On a device with memory of its own a step's sizes are padded (Device::PadRows), its small inputs travel in one copy,
// and the plan is kept by its sizes and addresses, together with the device's recording of it: a step like an earlier
// one is planned, launched and allocated for no more.
// An executor belongs to one caller at a time. Its weights must outlive it.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/device.h"
#include "runtime/planner.h"
#include "runtime/step_stage.h"
#include "runtime/upload_ring.h"
#include "ting/status.h"

namespace ting {

// What a step gives for one graph input. `rows` names the sequences of its first axis, null where it has none.
struct StepInput {
  TensorView tensor;
  const RowSet* rows = nullptr;
  bool on_host = false;  // the bytes must be copied to a device with memory of its own; the CPU does not care
};

// What a step gives back: a view into the executor's arena, valid until its next Run.
struct StepOutput {
  TensorView tensor;
  const RowSet* rows = nullptr;
  DeviceRows device_rows;  // where the device has the row set; empty on the CPU
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

  // Gives back the memory of earlier steps; their outputs go with it. Nothing may be running.
  void ReleaseMemory() { plans_.clear(), arena_.reset(); }

  void EnableProfile() { profile_ = true; }
  std::vector<NodeTime> Profile() const { return times_; }
  // From now on every step's work is counted, against the device's roofline where it has one.
  void EnableWorkCount() { counts_work_ = true; }
  const WorkTotal& work() const { return work_total_; }
  const Graph& graph() const { return graph_; }
  size_t arena_bytes() const { return arena_ ? arena_->size() : 0; }

 private:
  struct NodeViews {
    std::vector<TensorView> inputs, outputs;
    std::vector<const RowSet*> rows;
    std::vector<DeviceRows> device_rows;
    std::byte* workspace = nullptr;
  };
  // A planned step: what every node sees. Valid for all steps of the same key.
  struct Plan {
    std::vector<NodeViews> views;    // by node
    std::vector<std::byte*> places;  // by value
    std::unique_ptr<Recording> recording;
    int64_t last_run = 0;
  };
  using PlanKey = std::vector<int64_t>;

  Executor(const Graph& graph, Device& device) : graph_(graph), device_(device), uploads_(device) {}
  Status CreateKernels(const WeightStore& weights);
  void CountWork(const StepOptions& options);
  void FindLifetimes();
  Status BindInputs(std::span<const StepInput> inputs, const std::map<std::string, int64_t>& sizes);
  Status BindSymbol(const std::string& symbol, int64_t size);
  Status BindOutputs(size_t node);
  Status DeriveRows(size_t node);
  PlanKey KeyOf(std::span<const StepInput> inputs, const StepOptions& options) const;
  Result<Plan*> FindPlan(std::span<const StepInput> inputs, const StepOptions& options, Stream& stream);
  Status MakePlan(const StepOptions& options, Stream& stream, Plan& plan);
  void StageInputs(std::span<const StepInput> inputs);
  Status SendStage(Stream& stream);
  void ShowTo(NodeViews& views, const Node& node) const;
  DeviceRows DeviceRowsOf(ValueId id) const;
  TensorView PaddedView(ValueId id) const;
  Status EnsureArena(size_t bytes);
  KernelContext ContextOf(const NodeViews& views, const StepOptions& options, Stream& stream) const;
  Status RunNodes(Plan& plan, const StepOptions& options, Stream& stream);

  Graph graph_;
  Device& device_;
  std::vector<std::unique_ptr<Kernel>> kernels_;
  StepLabels labels_;
  bool profile_ = false;
  std::vector<NodeTime> times_;
  std::vector<WorkFunction> work_functions_;  // by node
  bool counts_work_ = false;
  StepWork step_work_;  // of the step that runs; empty where nobody asks
  WorkTotal work_total_;
  NodeViews work_views_;  // of the node that is being counted; keeps its memory

  // Fixed by the graph: each value's first and last use, and the symbols that are no row counts, which are not padded.
  std::vector<int> first_use_, last_use_;  // by value; last node + 1 for graph outputs
  std::vector<bool> is_input_;
  std::set<std::string> widths_;

  // This step's.
  std::map<std::string, int64_t> symbols_;
  std::map<std::string, RowSet> derived_rows_;
  std::vector<TensorView> tensors_;  // by value, true shapes
  std::vector<const RowSet*> rows_;  // by value
  std::vector<BufferRequest> requests_;
  std::vector<size_t> offsets_;

  // Where a device's own memory takes what the host sends.
  StepStage stage_;
  std::map<const RowSet*, size_t> staged_rows_;
  std::map<std::string, size_t> staged_counts_;
  std::map<std::string, int32_t> counts_;
  std::map<ValueId, size_t> staged_inputs_;
  UploadRing uploads_;

  std::map<PlanKey, Plan> plans_;  // one, under the empty key, where nothing is recorded
  int64_t runs_ = 0;
  std::unique_ptr<DeviceBuffer> arena_;
};

}  // namespace ting
