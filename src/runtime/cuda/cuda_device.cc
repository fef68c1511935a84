// src/runtime/cuda/cuda_device.cc
// SPDX-License-Identifier: Apache-2.0
//
// One NVIDIA GPU as a Device: memory, streams, kernels, and steps recorded as CUDA graphs. Steps and nodes are NVTX
// ranges, which cost nothing unless a profiler looks (a step's graph is launched, not queued node by node, so its nodes
// show only when it is recorded), and ranges of the trace log while a trace is made.
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/graph_recording.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tunable.h"
#include "kernels/cuda/tuner.h"
#include "runtime/cuda/capture_notes.h"
#include "runtime/gpu_device.h"
#include "runtime/trace_log.h"

namespace ting {
namespace {

using cuda::CudaBackend;
using cuda::CudaStatus;
using cuda::CudaStream;

// Memory in use, against the limit; shared with the buffers, which may outlive the device.
struct MemoryCount {
  size_t limit = 0;
  std::atomic<size_t> used = 0;
};

class CudaBuffer : public DeviceBuffer {
 public:
  CudaBuffer(cuda::DeviceMemory memory, std::shared_ptr<MemoryCount> count)
      : memory_(std::move(memory)), count_(std::move(count)) {}
  ~CudaBuffer() override { count_->used -= memory_.size(); }
  std::byte* data() override { return static_cast<std::byte*>(memory_.data()); }
  size_t size() const override { return memory_.size(); }

 private:
  cuda::DeviceMemory memory_;
  std::shared_ptr<MemoryCount> count_;
};

class PinnedBuffer : public DeviceBuffer {
 public:
  PinnedBuffer(void* data, size_t size) : data_(data), size_(size) {}
  ~PinnedBuffer() override { cudaFreeHost(data_); }
  std::byte* data() override { return static_cast<std::byte*>(data_); }
  size_t size() const override { return size_; }

 private:
  void* data_;
  size_t size_;
};

class CudaEvent : public Event {
 public:
  static Result<std::unique_ptr<Event>> Create() {
    std::unique_ptr<CudaEvent> event(new CudaEvent());
    TING_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&event->handle_, cudaEventDisableTiming));
    return std::unique_ptr<Event>(std::move(event));
  }
  ~CudaEvent() override {
    if (handle_ != nullptr) cudaEventDestroy(handle_);
  }
  Status Record(Stream& stream) override {
    return CudaStatus(cudaEventRecord(handle_, static_cast<CudaStream&>(stream).handle()), "recording an event");
  }
  Status Wait() override { return CudaStatus(cudaEventSynchronize(handle_), "waiting for the GPU"); }

 private:
  CudaEvent() = default;
  cudaEvent_t handle_ = nullptr;
};

// A step's CUDA graph. A step seen once is only counted: recording costs milliseconds and pays from the second on.
class GraphRecording : public Recording {
 public:
  ~GraphRecording() override {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
  }
  cudaGraphExec_t executable = nullptr;
  std::shared_ptr<const RecordedNodes> nodes;  // null where no trace was being made
};

// The ranges that the calling thread has open.
struct ThreadRanges {
  std::vector<const StepLabels*> steps;
  std::vector<size_t> nodes;        // at most one, in the innermost step
  CaptureNotes* capture = nullptr;  // where that step is being recorded for a trace
};
thread_local ThreadRanges thread_ranges;

class CudaDevice : public Device {
 public:
  CudaDevice(std::unique_ptr<CudaBackend> backend, size_t limit) : backend_(std::move(backend)) {
    name_ = fmt::format("cuda:{}", backend_->options().ordinal);
    count_->limit = limit;
  }

  const std::string& name() const override { return name_; }
  std::span<const KernelEntry> kernels() const override { return CudaKernels(); }
  BackendState* backend() override { return backend_.get(); }
  DType memory_type(int64_t head_width) const override { return cuda::HeadType(backend_->storage(), head_width); }
  bool uses_host_memory() const override { return false; }
  int64_t PadRows(int64_t rows) const override { return cuda::PadRows(rows); }
  int PadSequences(int sequences) const override { return static_cast<int>(cuda::PadSize(sequences, 1)); }
  TuningTable* tuning() override { return &backend_->tuning(); }
  Result<HardwareName> hardware() const override;
  Result<std::vector<TuningRecord>> Tune(const TuningRequest& request) override;

  Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) override {
    if (count_->limit > 0 && count_->used + bytes > count_->limit) {
      return ResourceExhausted("{} MB more would pass the limit of {} MB of GPU memory; use a smaller batch",
                               bytes >> 20, count_->limit >> 20);
    }
    TING_RETURN_IF_ERROR(MakeCurrent());
    TING_ASSIGN_OR_RETURN(cuda::DeviceMemory memory, cuda::DeviceMemory::Allocate(bytes));
    count_->used += bytes;
    return std::unique_ptr<DeviceBuffer>(std::make_unique<CudaBuffer>(std::move(memory), count_));
  }
  Result<std::unique_ptr<DeviceBuffer>> AllocateHost(size_t bytes) override {
    void* data = nullptr;
    TING_CUDA_RETURN_IF_ERROR(cudaMallocHost(&data, std::max<size_t>(bytes, 1)));
    return std::unique_ptr<DeviceBuffer>(std::make_unique<PinnedBuffer>(data, bytes));
  }
  Result<std::unique_ptr<Stream>> CreateStream() override {
    TING_RETURN_IF_ERROR(MakeCurrent());
    TING_ASSIGN_OR_RETURN(auto stream, CudaStream::Create());
    return std::unique_ptr<Stream>(std::move(stream));
  }
  Result<std::unique_ptr<Event>> CreateEvent() override {
    TING_RETURN_IF_ERROR(MakeCurrent());
    return CudaEvent::Create();
  }
  Status MakeCurrent() override { return CudaStatus(cudaSetDevice(backend_->options().ordinal), "cudaSetDevice"); }
  Status RunRecorded(Stream& stream, std::unique_ptr<Recording>* recording,
                     const std::function<Status()>& issue) override;
  Result<double> Time(Stream& stream, const std::function<Status()>& issue) const override;

  void BeginStep(const StepLabels& labels, const StepWork& work) override;
  void BeginNode(size_t node) override;
  void EndRange() override;
  bool wants_work() const override { return TraceLog::active() != nullptr; }
  int element_bytes() const override { return static_cast<int>(backend_->element_bytes()); }
  std::optional<Peaks> peaks() const override {
    return GpuPeaks(backend_->properties().name, element_bytes(), backend_->compute() == cuda::Compute::kTF32);
  }

 private:
  std::string name_;
  std::unique_ptr<CudaBackend> backend_;
  std::shared_ptr<MemoryCount> count_ = std::make_shared<MemoryCount>();
};

cuda::Compute ComputeOf(Precision precision) {
  switch (precision) {
    case Precision::kF32:
      return cuda::Compute::kF32;
    case Precision::kTF32:
      return cuda::Compute::kTF32;
    case Precision::kF16:
      return cuda::Compute::kF16;
    case Precision::kBF16x1:
      return cuda::Compute::kBF16;
    case Precision::kBF16:
    case Precision::kBF16x3:
    case Precision::kInt16:
      break;
  }
  TING_CHECK(false, "CreateDevice refuses what a GPU does not compute in");
}

Status CudaDevice::RunRecorded(Stream& stream, std::unique_ptr<Recording>* recording,
                               const std::function<Status()>& issue) {
  if (!*recording) {
    *recording = std::make_unique<GraphRecording>();
    return issue();
  }
  auto& graph = static_cast<GraphRecording&>(**recording);
  const cudaStream_t handle = static_cast<CudaStream&>(stream).handle();
  if (graph.executable == nullptr) {
    CaptureNotes notes(handle);
    thread_ranges.capture = TraceLog::active() != nullptr ? &notes : nullptr;
    auto executable = cuda::RecordGraph(handle, issue);
    if (std::exchange(thread_ranges.capture, nullptr) != nullptr) graph.nodes = notes.Take();
    TING_RETURN_IF_ERROR(executable.status());
    graph.executable = *executable;
  }
  if (TraceLog* log = TraceLog::active()) log->Replays(graph.nodes);
  return CudaStatus(cudaGraphLaunch(graph.executable, handle), "graph launch");
}

Result<double> CudaDevice::Time(Stream& stream, const std::function<Status()>& issue) const {
  const cudaStream_t handle = static_cast<CudaStream&>(stream).handle();
  cudaEvent_t events[2] = {};
  for (cudaEvent_t& event : events) TING_CUDA_RETURN_IF_ERROR(cudaEventCreate(&event));
  TING_CUDA_RETURN_IF_ERROR(cudaEventRecord(events[0], handle));
  const Status status = issue();
  TING_CUDA_RETURN_IF_ERROR(cudaEventRecord(events[1], handle));
  TING_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(events[1]));
  float ms = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&ms, events[0], events[1]));
  for (const cudaEvent_t event : events) cudaEventDestroy(event);
  TING_RETURN_IF_ERROR(status);
  return static_cast<double>(ms);
}

// "580.159.04", as the driver tells in /proc; where it does not, the CUDA version that it has: "cuda-13000".
std::string DriverVersion() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string word;
  while (file >> word) {
    const bool dotted = word.find('.') != std::string::npos;
    if (dotted && word.find_first_not_of("0123456789.") == std::string::npos) return word;
  }
  int version = 0;
  cudaDriverGetVersion(&version);
  return fmt::format("cuda-{}", version);
}

Result<HardwareName> CudaDevice::hardware() const {
  const cudaDeviceProp& properties = backend_->properties();
  return HardwareName{properties.name, fmt::format("{}.{}", properties.major, properties.minor), DriverVersion()};
}

Result<std::vector<TuningRecord>> CudaDevice::Tune(const TuningRequest& request) {
  TING_RETURN_IF_ERROR(MakeCurrent());
  return cuda::TuneProducts(*backend_, request);
}

void CudaDevice::BeginStep(const StepLabels& labels, const StepWork& work) {
  nvtxRangePushA(labels.graph.c_str());
  thread_ranges.steps.push_back(&labels);
  if (TraceLog* log = TraceLog::active()) log->BeginStep(labels, work);
}

void CudaDevice::BeginNode(size_t node) {
  nvtxRangePushA(thread_ranges.steps.back()->nodes[node].text.c_str());
  thread_ranges.nodes.push_back(node);
  if (thread_ranges.capture != nullptr) return;  // nothing runs now: it is noted at the end
  if (TraceLog* log = TraceLog::active()) log->BeginNode(node);
}

void CudaDevice::EndRange() {
  nvtxRangePop();
  ThreadRanges& ranges = thread_ranges;
  if (ranges.nodes.empty()) {
    ranges.steps.pop_back();
  } else {
    const size_t node = ranges.nodes.back();
    ranges.nodes.pop_back();
    if (ranges.capture != nullptr) return ranges.capture->EndNode(node);
  }
  if (TraceLog* log = TraceLog::active()) log->EndRange();
}

}  // namespace

Result<std::unique_ptr<Device>> CreateGpuDevice(const GpuOptions& options) {
  const cuda::CudaOptions cuda{options.ordinal, ComputeOf(options.precision), options.batch_invariant};
  TING_ASSIGN_OR_RETURN(auto backend, CudaBackend::Create(cuda));
  return std::unique_ptr<Device>(std::make_unique<CudaDevice>(std::move(backend), options.memory_limit_bytes));
}

Result<int> CountGpus() {
  int count = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGetDeviceCount(&count));
  return count;
}

}  // namespace ting
