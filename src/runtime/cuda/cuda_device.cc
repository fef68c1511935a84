// src/runtime/cuda/cuda_device.cc
// SPDX-License-Identifier: Apache-2.0
//
// One NVIDIA GPU as a Device: memory, streams, kernels, and steps recorded as CUDA graphs.
#include <algorithm>
#include <atomic>
#include <bit>

#include "base/status_macros.h"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"
#include "runtime/gpu_device.h"

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
};

// Sizes of up to eight steps between powers of two, at least `least`: few recordings, at most 1/8 of the work for
// padding.
int64_t RoundUp(int64_t size, int64_t least) {
  if (size <= least) return least;
  const int64_t step =
      std::max<int64_t>(static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(size - 1))) / 8, least);
  return (size + step - 1) / step * step;
}

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
  int64_t PadRows(int64_t rows) const override { return RoundUp(rows, 32); }
  int PadSequences(int sequences) const override { return static_cast<int>(RoundUp(sequences, 1)); }

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
    case Precision::kBF16:
      return cuda::Compute::kBF16;
  }
  return cuda::Compute::kF32;
}

// What `issue` queues on `stream`, as a graph that is not yet run.
Result<cudaGraphExec_t> Record(cudaStream_t stream, const std::function<Status()>& issue) {
  TING_CUDA_RETURN_IF_ERROR(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const Status status = issue();
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  cudaGraphExec_t executable = nullptr;
  Status made = CudaStatus(ended, "recording a step");
  if (status.ok() && made.ok()) made = CudaStatus(cudaGraphInstantiate(&executable, graph, 0), "recording a step");
  if (graph != nullptr) cudaGraphDestroy(graph);
  TING_RETURN_IF_ERROR(status);
  TING_RETURN_IF_ERROR(made);
  return executable;
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
    TING_ASSIGN_OR_RETURN(graph.executable, Record(handle, issue));
  }
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
