// src/kernels/kernel.h
// SPDX-License-Identifier: Apache-2.0
//
// What every backend implements: a Kernel is one graph node with its weights bound, ready to run on any
// number of rows. Each op has a contract header beside this file (shapes, numerics, weights) whose Parse…
// function turns an OpDesc into checked parameters; ref/, cpu/ and cuda/ all start from those parameters.
//
// Life of a kernel: the registry asks the entries of a backend in order, the first that does not refuse
// creates it (packing, tables: load time); then, a step at a time, WorkspaceBytes with this step's shapes,
// and Run. Run allocates nothing after the first step of a size.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "tensor/attributes.h"
#include "tensor/row_set.h"
#include "tensor/tensor.h"
#include "ting/status.h"

namespace ting {

// A node as the kernels see it: no graph, no names of values.
struct OpDesc {
  std::string op;
  std::string node;  // for messages
  Attributes attributes;
  std::map<std::string, WeightView> weights;  // by slot, e.g. "w1"; views stay valid as long as the kernel

  bool HasWeight(const std::string& slot) const { return weights.contains(slot); }
};

// Where work is queued. The CPU's stream carries its thread pool, CUDA's its stream handle; kernels cast to
// the stream of their own backend.
class Stream {
 public:
  virtual ~Stream() = default;
};

// Choices of one step that are no tensors.
struct StepOptions {
  int chunk_frames = 0;      // attention mask of the encoder, 0: full
  int num_left_chunks = -1;  // < 0: all
  float blank_penalty = 0;   // subtracted from the blank's logit
};

struct KernelContext {
  std::span<const TensorView> inputs;
  std::span<const TensorView> outputs;
  // The row set of each input's first axis; null where that axis is no set of sequences.
  std::span<const RowSet* const> input_rows;
  const StepOptions* options = nullptr;
  std::byte* workspace = nullptr;  // 64-byte aligned, as many bytes as WorkspaceBytes asked for
  Stream* stream = nullptr;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  // `context` has shapes, row sets, options and stream; no data and no workspace.
  virtual size_t WorkspaceBytes(const KernelContext& context) const {
    (void)context;
    return 0;
  }
  virtual Status Run(const KernelContext& context) = 0;
};

// One implementation of one op. A backend's list is ordered: best first.
struct KernelEntry {
  const char* op;
  const char* name;  // "cpu.packed_f32", "ref"
  // Why this implementation cannot run the node here (weights' types, CPU features), or nothing.
  std::optional<std::string> (*refuse)(const OpDesc& desc);
  Result<std::unique_ptr<Kernel>> (*create)(const OpDesc& desc);
};

}  // namespace ting
