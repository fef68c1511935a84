// src/runtime/device.h
// SPDX-License-Identifier: Apache-2.0
//
// A place where graphs run: its memory, its streams and its ordered kernels. The planner and the executor know
// only this; a GPU is another subclass (runtime/cuda).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kernel.h"
#include "kernels/tuning.h"
#include "runtime/roofline.h"
#include "runtime/work_ranges.h"
#include "ting/options.h"
#include "ting/status.h"

namespace ting {

// Memory of a device, or host memory that it copies from quickly; freed with the object.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual std::byte* data() = 0;
  virtual size_t size() const = 0;
};

// A point in a stream's work that the host can wait for.
class Event {
 public:
  virtual ~Event() = default;
  virtual Status Record(Stream& stream) = 0;  // behind what has been queued so far
  virtual Status Wait() = 0;                  // until the device is past the last Record; at once where there was none
};

// The work of one step as a device has recorded it, ready to run again. May be destroyed while it runs.
class Recording {
 public:
  virtual ~Recording() = default;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;
  virtual Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) = 0;
  // Host memory for copies from and to the device.
  virtual Result<std::unique_ptr<DeviceBuffer>> AllocateHost(size_t bytes) { return Allocate(bytes); }
  virtual Result<std::unique_ptr<Stream>> CreateStream() = 0;
  // Of a device whose streams have done their work when a call returns, unless it says otherwise.
  virtual Result<std::unique_ptr<Event>> CreateEvent();
  // Before the calling thread uses the device: a machine may have several.
  virtual Status MakeCurrent() { return Status(); }
  // Implementations, best first; the first that does not refuse a node runs it.
  virtual std::span<const KernelEntry> kernels() const = 0;
  virtual BackendState* backend() { return nullptr; }
  // The type in which cross_attention with heads of this width reads its keys and values.
  virtual DType memory_type(int64_t head_width) const {
    (void)head_width;
    return DType::kF32;
  }

  // Whether kernels read host memory: then a step's inputs are used where they lie. Otherwise the executor copies those
  // that lie on the host, and the sizes of the step's row sets (DeviceRows).
  virtual bool uses_host_memory() const { return true; }
  // A device that records its steps rounds their sizes up, so that few recordings serve all. Inputs that lie on such a
  // device must have room for the padded number of rows.
  virtual int64_t PadRows(int64_t rows) const { return rows; }
  virtual int PadSequences(int sequences) const { return sequences; }
  // Queues what `issue` launches on `stream`, or runs the recording of it when there is one; may make one.
  virtual Status RunRecorded(Stream& stream, std::unique_ptr<Recording>* recording,
                             const std::function<Status()>& issue) {
    (void)stream, (void)recording;
    return issue();
  }
  // Milliseconds that `issue` takes on the device, for profiles.
  virtual Result<double> Time(Stream& stream, const std::function<Status()>& issue) const;

  // The records that the device's kernels ask; null where no kernel has a choice.
  virtual TuningTable* tuning() { return nullptr; }
  // What measurements hold for.
  virtual Result<HardwareName> hardware() const;
  // Measures the products of all kernels that were created for the device.
  virtual Result<std::vector<TuningRecord>> Tune(const TuningRequest& request);

  // What the calling thread queues until EndRange is a step's, or (inside one) its node's; see StepRange and NodeRange.
  // `labels` and `work` must stay until then.
  virtual void BeginStep(const StepLabels& labels, const StepWork& work) { (void)labels, (void)work; }
  virtual void BeginNode(size_t node) { (void)node; }
  virtual void EndRange() {}
  // Whether BeginStep wants the step's work: while a trace is being recorded.
  virtual bool wants_work() const { return false; }
  // Bytes of an element of the matrices and activations of products, and the roofline, where one is known.
  virtual int element_bytes() const { return 4; }
  virtual std::optional<Peaks> peaks() const { return std::nullopt; }
};

class StepRange {
 public:
  StepRange(Device& device, const StepLabels& labels, const StepWork& work) : device_(device) {
    device_.BeginStep(labels, work);
  }
  ~StepRange() { device_.EndRange(); }
  StepRange(const StepRange&) = delete;
  StepRange& operator=(const StepRange&) = delete;

 private:
  Device& device_;
};

class NodeRange {
 public:
  NodeRange(Device& device, size_t node) : device_(device) { device_.BeginNode(node); }
  ~NodeRange() { device_.EndRange(); }
  NodeRange(const NodeRange&) = delete;
  NodeRange& operator=(const NodeRange&) = delete;

 private:
  Device& device_;
};

// The CPU. `backend`: "cpu" (own kernels, then ref) or "ref" alone. The pool outlives the device.
Result<std::unique_ptr<Device>> CreateCpuDevice(const std::string& backend, ThreadPool& pool);

// The devices that a name stands for, as names of one each: "cuda:0,2" and "cuda:all" are several GPUs.
Result<std::vector<std::string>> ExpandDevices(const std::string& name);

// What RecognizerOptions ask for: a CPU device, or a GPU's (gpu_device.h). `precision`: the one that the model is
// loaded in, in place of theirs.
Result<std::unique_ptr<Device>> CreateDevice(const RecognizerOptions& options, Precision precision, ThreadPool& pool);

// The first implementation of `desc.op` that accepts it, and every refusal before it ("cpu.avx512: …"). An entry of
// null: nobody does.
struct KernelChoice {
  const KernelEntry* entry = nullptr;
  std::vector<std::string> refusals;
};
KernelChoice ChooseKernel(std::span<const KernelEntry> entries, const OpDesc& desc);
// Creates it. `choice` (may be null) tells which it was.
Result<std::unique_ptr<Kernel>> CreateKernel(std::span<const KernelEntry> entries, const OpDesc& desc,
                                             KernelChoice* choice);

}  // namespace ting
