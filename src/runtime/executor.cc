// src/runtime/executor.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor.h"

#include <algorithm>
#include <bit>

#include "base/status_macros.h"
#include "graph/printer.h"
#include "kernels/subsample_conv2d.h"
#include "runtime/dispatch.h"

namespace ting {
namespace {

int32_t LongestOf(const RowSet& rows) {
  int32_t longest = 0;
  for (int b = 0; b < rows.num_sequences(); ++b) longest = std::max(longest, rows.length(b));
  return longest;
}

}  // namespace

Result<std::unique_ptr<Executor>> Executor::Create(const Graph& graph, const WeightStore& weights, Device& device) {
  std::unique_ptr<Executor> executor(new Executor(graph, device));
  TING_RETURN_IF_ERROR(executor->CreateKernels(weights).WithContext("graph " + graph.name));
  executor->FindLifetimes();
  return executor;
}

Status Executor::CreateKernels(const WeightStore& weights) {
  labels_.graph = graph_.name;
  for (const Node& node : graph_.nodes) {
    TING_ASSIGN_OR_RETURN(const OpDesc desc, DescribeNode(graph_, node, weights, device_.backend()));
    KernelChoice choice;
    TING_ASSIGN_OR_RETURN(auto kernel, CreateKernel(device_.kernels(), desc, &choice));
    kernels_.push_back(std::move(kernel));
    times_.push_back({desc.node, desc.op, choice.entry->name, 0, 0.0});
    labels_.nodes.push_back(MakeNodeLabel(desc.node, desc.op, choice.entry->name));
    work_functions_.push_back(MakeWorkFunction(desc, device_.element_bytes()));
  }
  return Status();
}

// The true sizes, not the padded ones: padding is no work that anybody asked for.
void Executor::CountWork(const StepOptions& options) {
  const std::optional<Peaks> peaks = device_.peaks();
  NodeViews& views = work_views_;
  step_work_.resize(graph_.nodes.size());
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    step_work_[i].clear();
    if (!work_functions_[i]) continue;
    views.inputs.clear(), views.outputs.clear(), views.rows.clear();
    for (const ValueId id : graph_.nodes[i].inputs) {
      views.inputs.push_back(tensors_[id]);
      views.rows.push_back(rows_[id]);
    }
    for (const ValueId id : graph_.nodes[i].outputs) views.outputs.push_back(tensors_[id]);
    work_functions_[i]({views.inputs, views.outputs, views.rows, &options}, &step_work_[i]);
    if (counts_work_) work_total_ += TotalOf(step_work_[i], peaks);
  }
}

void Executor::FindLifetimes() {
  const auto num_nodes = static_cast<int>(graph_.nodes.size());
  first_use_.assign(graph_.values.size(), num_nodes);
  last_use_.assign(graph_.values.size(), -1);
  is_input_.assign(graph_.values.size(), false);
  for (const ValueId id : graph_.inputs) is_input_[id] = true;
  for (int i = 0; i < num_nodes; ++i) {
    const Node& node = graph_.nodes[i];
    for (const ValueId id : node.outputs) first_use_[id] = last_use_[id] = i;
    for (const ValueId id : node.inputs) last_use_[id] = i;
  }
  for (const ValueId id : graph_.outputs) last_use_[id] = num_nodes;
  for (const Value& value : graph_.values) {
    for (size_t axis = 1; axis < value.type.dims.size(); ++axis) widths_.insert(value.type.dims[axis].symbol);
  }
  tensors_.resize(graph_.values.size());
  rows_.resize(graph_.values.size());
}

Status Executor::BindSymbol(const std::string& symbol, int64_t size) {
  const auto [it, inserted] = symbols_.try_emplace(symbol, size);
  if (inserted || it->second == size) return Status();
  return InvalidArgument("{} is {} in one input and {} in another", symbol, it->second, size);
}

Status Executor::BindInputs(std::span<const StepInput> inputs, const std::map<std::string, int64_t>& sizes) {
  if (inputs.size() != graph_.inputs.size()) {
    return InvalidArgument("{} inputs were given, the graph has {}", inputs.size(), graph_.inputs.size());
  }
  symbols_ = sizes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ValueId id = graph_.inputs[i];
    const Value& value = graph_.values[id];
    const TensorView& tensor = inputs[i].tensor;
    if (tensor.dtype != value.type.dtype || tensor.shape.rank() != static_cast<int>(value.type.dims.size())) {
      return InvalidArgument("input %{} is {}, not {}{}", value.name, PrintType(value.type), DTypeName(tensor.dtype),
                             tensor.shape.ToString());
    }
    for (int axis = 0; axis < tensor.shape.rank(); ++axis) {
      const Dim& dim = value.type.dims[axis];
      if (dim.fixed() && dim.size != tensor.shape[axis]) {
        return InvalidArgument("input %{} has {} on axis {}, not {}", value.name, tensor.shape[axis], axis, dim.size);
      }
      if (!dim.fixed()) TING_RETURN_IF_ERROR(BindSymbol(dim.symbol, tensor.shape[axis]));
    }
    if (inputs[i].rows != nullptr && inputs[i].rows->num_rows() != tensor.shape[0]) {
      return InvalidArgument("input %{}: its sequences have {} rows, it has {}", value.name, inputs[i].rows->num_rows(),
                             tensor.shape[0]);
    }
    tensors_[id] = tensor;
    rows_[id] = inputs[i].rows;
  }
  return Status();
}

// Subsampling is the only op whose output rows are not its input's.
Status Executor::DeriveRows(size_t index) {
  const Node& node = graph_.nodes[index];
  const RowSet* rows = rows_[node.inputs[0]];
  if (node.op != "subsample_conv2d") {
    // Rows follow the first input where the output has its first axis.
    for (const ValueId id : node.outputs) {
      const bool same = graph_.values[id].type.dims[0] == graph_.values[node.inputs[0]].type.dims[0];
      rows_[id] = same ? rows : nullptr;
    }
    return Status();
  }
  if (rows == nullptr) return InvalidArgument("node %{}: its input has no sequences", graph_.NodeName(node));
  TING_ASSIGN_OR_RETURN(const auto stages, SubsampleStages(node.attributes.Word("kind", "conv2d")));
  const std::string& symbol = graph_.values[node.outputs[0]].type.dims[0].symbol;
  RowSet& derived = derived_rows_[symbol];
  derived.Assign({});
  for (int b = 0; b < rows->num_sequences(); ++b) {
    derived.Append(static_cast<int32_t>(SubsampledFrames(stages, rows->length(b))));
  }
  rows_[node.outputs[0]] = &derived;
  return BindSymbol(symbol, derived.num_rows());
}

Status Executor::BindOutputs(size_t index) {
  TING_RETURN_IF_ERROR(DeriveRows(index));
  for (const ValueId id : graph_.nodes[index].outputs) {
    const TensorType& type = graph_.values[id].type;
    TensorView& tensor = tensors_[id];
    tensor = TensorView{nullptr, type.dtype, {}};
    for (const Dim& dim : type.dims) {
      const auto it = dim.fixed() ? symbols_.end() : symbols_.find(dim.symbol);
      if (!dim.fixed() && it == symbols_.end()) {
        return InvalidArgument("nothing gives {} of %{} a size", dim.symbol, graph_.values[id].name);
      }
      tensor.shape.Append(dim.fixed() ? dim.size : it->second);
    }
  }
  return Status();
}

KernelContext Executor::ContextOf(const NodeViews& views, const StepOptions& options, Stream& stream) const {
  return KernelContext{views.inputs, views.outputs, views.rows, &options, views.workspace, &stream, views.device_rows};
}

// A value as the kernels see it: its rows padded, its place in the plan.
TensorView Executor::PaddedView(ValueId id) const {
  const Value& value = graph_.values[id];
  TensorView view{tensors_[id].data, value.type.dtype, {}};
  for (int axis = 0; axis < tensors_[id].shape.rank(); ++axis) {
    const int64_t size = tensors_[id].shape[axis];
    const bool rows = axis == 0 && !value.type.dims[0].fixed();
    view.shape.Append(rows ? device_.PadRows(size) : size);
  }
  return view;
}

// While a first step is being planned there is no arena: its bounds are there all the same, because workspaces depend
// on them.
DeviceRows Executor::DeviceRowsOf(ValueId id) const {
  const auto at = [&](size_t offset) {
    return arena_ ? reinterpret_cast<const int32_t*>(arena_->data() + offset) : nullptr;
  };
  if (const auto it = staged_rows_.find(rows_[id]); it != staged_rows_.end()) {
    const int sequences = device_.PadSequences(rows_[id]->num_sequences());
    return {at(it->second), at(it->second + sequences * sizeof(int32_t)), sequences,
            device_.PadRows(LongestOf(*rows_[id]))};
  }
  const auto it = staged_counts_.find(graph_.values[id].type.dims[0].symbol);
  return it == staged_counts_.end() ? DeviceRows() : DeviceRows{nullptr, at(it->second), 0, 0};
}

void Executor::ShowTo(NodeViews& views, const Node& node) const {
  views.inputs.clear(), views.outputs.clear(), views.rows.clear(), views.device_rows.clear();
  for (const ValueId id : node.inputs) {
    views.inputs.push_back(PaddedView(id));
    views.rows.push_back(rows_[id]);
    if (!device_.uses_host_memory()) views.device_rows.push_back(DeviceRowsOf(id));
  }
  for (const ValueId id : node.outputs) views.outputs.push_back(PaddedView(id));
}

// Lays out what the host sends. The layout depends on the plan's key alone.
void Executor::StageInputs(std::span<const StepInput> inputs) {
  stage_.Clear(), staged_rows_.clear(), staged_counts_.clear(), staged_inputs_.clear();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].on_host) continue;
    const ValueId id = graph_.inputs[i];
    staged_inputs_[id] = stage_.Add(tensors_[id].data, tensors_[id].bytes(), PaddedView(id).bytes());
  }
  for (const RowSet* rows : rows_) {
    if (rows == nullptr || staged_rows_.contains(rows)) continue;
    const std::span<const int32_t> offsets = rows->offsets();
    const size_t padded = static_cast<size_t>(device_.PadSequences(rows->num_sequences())) + 1;
    staged_rows_[rows] = stage_.Add(offsets.data(), offsets.size_bytes(), padded * sizeof(int32_t), true);
  }
  for (const auto& [symbol, size] : symbols_) {
    counts_[symbol] = static_cast<int32_t>(size);
    staged_counts_[symbol] = stage_.Add(&counts_[symbol], sizeof(int32_t), sizeof(int32_t));
  }
}

Status Executor::SendStage(Stream& stream) {
  TING_ASSIGN_OR_RETURN(std::byte * host, uploads_.Begin(stage_.bytes()));
  stage_.Fill(host);
  return uploads_.Send(arena_->data(), stage_.bytes(), stream);
}

Status Executor::EnsureArena(size_t bytes) {
  if (arena_ && arena_->size() >= bytes) return Status();
  plans_.clear();                                       // their addresses go with it
  arena_.reset();                                       // the old one first: both at once would double the peak
  if (!device_.uses_host_memory()) bytes += bytes / 4;  // growing costs recordings
  TING_ASSIGN_OR_RETURN(arena_, device_.Allocate(bytes));
  return Status();
}

// Requests: one buffer a value that a node defines, then one workspace a node.
Status Executor::MakePlan(const StepOptions& options, Stream& stream, Plan& plan) {
  requests_.clear();
  for (size_t id = 0; id < graph_.values.size(); ++id) {
    if (!is_input_[id])
      requests_.push_back({PaddedView(static_cast<ValueId>(id)).bytes(), first_use_[id], last_use_[id]});
  }
  plan.views.resize(graph_.nodes.size());
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    ShowTo(plan.views[i], graph_.nodes[i]);
    const auto at = static_cast<int>(i);
    requests_.push_back({kernels_[i]->WorkspaceBytes(ContextOf(plan.views[i], options, stream)), at, at});
  }
  const size_t bytes = stage_.bytes() + PlanBuffers(requests_, &offsets_);
  TING_RETURN_IF_ERROR(EnsureArena(bytes));
  size_t next = 0;
  plan.places.assign(graph_.values.size(), nullptr);
  for (size_t id = 0; id < graph_.values.size(); ++id) {
    if (!is_input_[id]) plan.places[id] = arena_->data() + stage_.bytes() + offsets_[next++];
  }
  for (const auto& [id, offset] : staged_inputs_) plan.places[id] = arena_->data() + offset;
  for (size_t id = 0; id < graph_.values.size(); ++id) {
    if (plan.places[id] != nullptr) tensors_[id].data = plan.places[id];
  }
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    ShowTo(plan.views[i], graph_.nodes[i]);
    plan.views[i].workspace = arena_->data() + stage_.bytes() + offsets_[next++];
  }
  return Status();
}

// Padded sizes, addresses and options: all that decides what is launched.
Executor::PlanKey Executor::KeyOf(std::span<const StepInput> inputs, const StepOptions& options) const {
  PlanKey key{options.chunk_frames, options.num_left_chunks, std::bit_cast<int32_t>(options.blank_penalty)};
  for (const auto& [symbol, size] : symbols_) key.push_back(widths_.contains(symbol) ? size : device_.PadRows(size));
  for (const StepInput& input : inputs) {
    key.push_back(input.on_host ? 0 : reinterpret_cast<int64_t>(input.tensor.data));
    key.push_back(input.rows == nullptr ? -1 : device_.PadSequences(input.rows->num_sequences()));
    key.push_back(input.rows == nullptr ? -1 : device_.PadRows(LongestOf(*input.rows)));
  }
  return key;
}

Result<Executor::Plan*> Executor::FindPlan(std::span<const StepInput> inputs, const StepOptions& options,
                                           Stream& stream) {
  constexpr size_t kMaxPlans = 128;
  const bool recorded = !device_.uses_host_memory();
  if (recorded) StageInputs(inputs);
  PlanKey key = recorded ? KeyOf(inputs, options) : PlanKey();
  if (const auto it = plans_.find(key); recorded && it != plans_.end()) {
    it->second.last_run = ++runs_;
    for (size_t id = 0; id < tensors_.size(); ++id) {
      if (it->second.places[id] != nullptr) tensors_[id].data = it->second.places[id];
    }
    return &it->second;
  }
  if (plans_.size() >= kMaxPlans) {
    plans_.erase(std::min_element(plans_.begin(), plans_.end(),
                                  [](const auto& a, const auto& b) { return a.second.last_run < b.second.last_run; }));
  }
  Plan plan;
  if (!recorded && plans_.contains(key)) plan = std::move(plans_[key]);  // keeps its memory
  TING_RETURN_IF_ERROR(MakePlan(options, stream, plan));
  plan.last_run = ++runs_;
  return &(plans_[std::move(key)] = std::move(plan));
}

Status Executor::RunNodes(Plan& plan, const StepOptions& options, Stream& stream) {
  for (size_t i = 0; i < kernels_.size(); ++i) {
    const NodeRange range(device_, i);
    const auto run = [&] { return kernels_[i]->Run(ContextOf(plan.views[i], options, stream)); };
    Status status;
    if (profile_) {
      const auto time = device_.Time(stream, std::ref(run));
      status = time.status();
      if (time.ok()) ++times_[i].calls, times_[i].total_ms += *time;
    } else {
      status = run();
    }
    if (!status.ok()) return status.WithContext("node %" + graph_.NodeName(graph_.nodes[i]));
  }
  return Status();
}

Status Executor::Run(std::span<const StepInput> inputs, const std::map<std::string, int64_t>& sizes,
                     const StepOptions& options, Stream& stream, std::vector<StepOutput>* outputs) {
  const std::string context = "graph " + graph_.name;
  TING_RETURN_IF_ERROR(device_.MakeCurrent());
  TING_RETURN_IF_ERROR(BindInputs(inputs, sizes).WithContext(context));
  for (size_t i = 0; i < graph_.nodes.size(); ++i) TING_RETURN_IF_ERROR(BindOutputs(i).WithContext(context));
  if (counts_work_ || device_.wants_work()) CountWork(options);
  const StepRange range(device_, labels_, step_work_);
  auto plan = FindPlan(inputs, options, stream);
  if (!plan.ok()) return plan.status().WithContext(context);
  if (!device_.uses_host_memory()) TING_RETURN_IF_ERROR(SendStage(stream).WithContext(context));
  const auto issue = [&] { return RunNodes(**plan, options, stream); };
  const Status status = profile_ ? issue() : device_.RunRecorded(stream, &(*plan)->recording, std::ref(issue));
  TING_RETURN_IF_ERROR(status.WithContext(context));
  outputs->clear();
  for (const ValueId id : graph_.outputs) {
    const bool on_host = device_.uses_host_memory();
    outputs->push_back({tensors_[id], rows_[id], on_host ? DeviceRows() : DeviceRowsOf(id)});
  }
  return Status();
}

}  // namespace ting
