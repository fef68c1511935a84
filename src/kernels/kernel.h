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
#include <cstring>
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

// What the kernels of one device share: weights in its memory, library handles. Each backend has its own; the CPU none.
class BackendState {
 public:
  virtual ~BackendState() = default;
};

// A node as the kernels see it: no graph, no names of values.
struct OpDesc {
  std::string op;
  std::string node;  // for messages
  Attributes attributes;
  std::map<std::string, WeightView> weights;  // by slot, e.g. "w1", in host memory; valid as long as the kernel
  BackendState* backend = nullptr;            // of the device that the kernel is created for

  bool HasWeight(const std::string& slot) const { return weights.contains(slot); }
};

// Where work is queued. The CPU's stream carries its thread pool, CUDA's its stream handle; kernels cast to
// the stream of their own backend.
class Stream {
 public:
  virtual ~Stream() = default;
  // Copies between host memory and the device's, in the stream's order. Host memory must be pinned where the device
  // has such, and stay as it is until Synchronize.
  virtual Status CopyToDevice(void* device, const void* host, size_t bytes) {
    if (bytes > 0) std::memcpy(device, host, bytes);
    return Status();
  }
  // The same from memory of Device::AllocateHost, for what the next work waits for.
  virtual Status SendToDevice(void* device, const void* host, size_t bytes) {
    return CopyToDevice(device, host, bytes);
  }
  virtual Status CopyToHost(void* host, const void* device, size_t bytes) {
    if (bytes > 0) std::memcpy(host, device, bytes);
    return Status();
  }
  // Waits until all that was queued is done.
  virtual Status Synchronize() { return Status(); }
};

// Choices of one step that are no tensors.
struct StepOptions {
  int chunk_frames = 0;      // attention mask of the encoder, 0: full
  int num_left_chunks = -1;  // < 0: all
  float blank_penalty = 0;   // subtracted from the blank's logit
};

// Where the sizes of a step lie in a device's memory. A device that records its steps makes shapes larger than the rows
// in use, so that one recording serves many steps: its kernels size their grids by the shapes and read these.
struct DeviceRows {
  const int32_t* offsets =
      nullptr;                     // [max_sequences + 1]; sequences past the last are empty. Null: no set of sequences
  const int32_t* count = nullptr;  // rows in use of the input's first axis; never more than the shape says
  int max_sequences = 0;
  int64_t max_length = 0;  // bound of the longest sequence
};

struct KernelContext {
  std::span<const TensorView> inputs;
  std::span<const TensorView> outputs;
  // The row set of each input's first axis; null where that axis is no set of sequences.
  std::span<const RowSet* const> input_rows;
  const StepOptions* options = nullptr;
  std::byte* workspace = nullptr;  // 64-byte aligned, as many bytes as WorkspaceBytes asked for
  Stream* stream = nullptr;
  std::span<const DeviceRows> device_rows;  // one an input; empty on the CPU
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  // `context` has shapes, row sets, the bounds of device_rows, options and stream; no data and no workspace.
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
