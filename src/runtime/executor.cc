// src/runtime/executor.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor.h"

#include <algorithm>
#include <chrono>

#include "base/status_macros.h"
#include "graph/printer.h"
#include "kernels/subsample_conv2d.h"

namespace ting {

Result<std::unique_ptr<Executor>> Executor::Create(const Graph& graph, const WeightStore& weights, Device& device) {
  std::unique_ptr<Executor> executor(new Executor(graph, device));
  TING_RETURN_IF_ERROR(executor->CreateKernels(weights).WithContext("graph " + graph.name));
  executor->FindLifetimes();
  return executor;
}

Status Executor::CreateKernels(const WeightStore& weights) {
  for (const Node& node : graph_.nodes) {
    OpDesc desc{node.op, graph_.NodeName(node), node.attributes, {}};
    for (const auto& [slot, name] : node.weights) {
      const Weight* weight = weights.Find(name);
      if (weight == nullptr) return InvalidArgument("node %{}: weight {} does not exist", desc.node, name);
      TING_ASSIGN_OR_RETURN(desc.weights[slot], device_.Upload(weight->view));
    }
    NodeTime time{desc.node, desc.op, "", 0, 0.0};
    TING_ASSIGN_OR_RETURN(auto kernel, CreateKernel(device_.kernels(), desc, &time.implementation, &refusals_));
    kernels_.push_back(std::move(kernel));
    times_.push_back(std::move(time));
  }
  return Status();
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
    NodeViews views;
    views.inputs.resize(node.inputs.size());
    views.outputs.resize(node.outputs.size());
    views.rows.resize(node.inputs.size());
    views_.push_back(std::move(views));
  }
  for (const ValueId id : graph_.outputs) last_use_[id] = num_nodes;
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

KernelContext Executor::ContextOf(size_t index, const StepOptions& options, Stream& stream) const {
  const NodeViews& views = views_[index];
  return KernelContext{views.inputs, views.outputs, views.rows, &options, views.workspace, &stream};
}

// Requests: one buffer a value that a node defines, then one workspace a node.
Status Executor::PlanArena(const StepOptions& options, Stream& stream) {
  requests_.clear();
  const auto refresh = [&](size_t i) {
    const Node& node = graph_.nodes[i];
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      views_[i].inputs[k] = tensors_[node.inputs[k]];
      views_[i].rows[k] = rows_[node.inputs[k]];
    }
    for (size_t k = 0; k < node.outputs.size(); ++k) views_[i].outputs[k] = tensors_[node.outputs[k]];
  };
  for (size_t id = 0; id < graph_.values.size(); ++id) {
    if (!is_input_[id]) requests_.push_back({tensors_[id].bytes(), first_use_[id], last_use_[id]});
  }
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    refresh(i);
    const auto at = static_cast<int>(i);
    requests_.push_back({kernels_[i]->WorkspaceBytes(ContextOf(i, options, stream)), at, at});
  }
  const size_t bytes = PlanBuffers(requests_, &offsets_);
  if (!arena_ || arena_->size() < bytes) {
    arena_.reset();  // the old one first: both at once would double the peak
    TING_ASSIGN_OR_RETURN(arena_, device_.Allocate(bytes));
  }
  size_t next = 0;
  for (size_t id = 0; id < graph_.values.size(); ++id) {
    if (!is_input_[id]) tensors_[id].data = arena_->data() + offsets_[next++];
  }
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    refresh(i);
    views_[i].workspace = arena_->data() + offsets_[next++];
  }
  return Status();
}

Status Executor::RunNodes(const StepOptions& options, Stream& stream) {
  using Clock = std::chrono::steady_clock;
  for (size_t i = 0; i < kernels_.size(); ++i) {
    const auto start = profile_ ? Clock::now() : Clock::time_point();
    const Status status = kernels_[i]->Run(ContextOf(i, options, stream));
    if (!status.ok()) return status.WithContext("node %" + graph_.NodeName(graph_.nodes[i]));
    if (profile_) {
      ++times_[i].calls;
      times_[i].total_ms += std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    }
  }
  return Status();
}

Status Executor::Run(std::span<const StepInput> inputs, const std::map<std::string, int64_t>& sizes,
                     const StepOptions& options, Stream& stream, std::vector<StepOutput>* outputs) {
  const std::string context = "graph " + graph_.name;
  TING_RETURN_IF_ERROR(BindInputs(inputs, sizes).WithContext(context));
  for (size_t i = 0; i < graph_.nodes.size(); ++i) TING_RETURN_IF_ERROR(BindOutputs(i).WithContext(context));
  TING_RETURN_IF_ERROR(PlanArena(options, stream).WithContext(context));
  TING_RETURN_IF_ERROR(RunNodes(options, stream).WithContext(context));
  outputs->clear();
  for (const ValueId id : graph_.outputs) outputs->push_back({tensors_[id], rows_[id]});
  return Status();
}

}  // namespace ting
