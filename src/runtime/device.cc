// src/runtime/device.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/device.h"

#include <algorithm>
#include <charconv>
#include <chrono>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/ref/ref_kernels.h"
#include "runtime/gpu_device.h"

namespace ting {
namespace {

class HostBuffer : public DeviceBuffer {
 public:
  explicit HostBuffer(AlignedBuffer buffer) : buffer_(std::move(buffer)) {}
  std::byte* data() override { return buffer_.data(); }
  size_t size() const override { return buffer_.size(); }

 private:
  AlignedBuffer buffer_;
};

class CpuDevice : public Device {
 public:
  CpuDevice(std::string name, std::vector<KernelEntry> kernels, ThreadPool& pool)
      : name_(std::move(name)), kernels_(std::move(kernels)), pool_(pool) {}

  const std::string& name() const override { return name_; }
  Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) override {
    TING_ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Allocate(bytes));
    return std::unique_ptr<DeviceBuffer>(std::make_unique<HostBuffer>(std::move(buffer)));
  }
  Result<std::unique_ptr<Stream>> CreateStream() override {
    return std::unique_ptr<Stream>(std::make_unique<CpuStream>(pool_));
  }
  std::span<const KernelEntry> kernels() const override { return kernels_; }

 private:
  std::string name_;
  std::vector<KernelEntry> kernels_;
  ThreadPool& pool_;
};

}  // namespace

Result<double> Device::Time(Stream& stream, const std::function<Status()>& issue) const {
  const auto start = std::chrono::steady_clock::now();
  TING_RETURN_IF_ERROR(issue());
  TING_RETURN_IF_ERROR(stream.Synchronize());
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

Result<HardwareName> Device::hardware() const {
  return FailedPrecondition("the kernels of {} have no choices", name());
}

Result<std::vector<TuningRecord>> Device::Tune(const TuningRequest&) {
  return FailedPrecondition("the kernels of device {} have no choices to measure; use --device cuda", name());
}

Result<std::unique_ptr<Device>> CreateCpuDevice(const std::string& backend, ThreadPool& pool) {
  std::vector<KernelEntry> kernels;
  if (backend == "cpu") {
    kernels.assign(CpuKernels().begin(), CpuKernels().end());
  } else if (backend != "ref") {
    return InvalidArgument("there is no device named {}; use cpu, cuda, cuda:N or ref", backend);
  }
  kernels.insert(kernels.end(), RefKernels().begin(), RefKernels().end());
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(backend, std::move(kernels), pool));
}

Result<std::unique_ptr<Device>> CreateDevice(const RecognizerOptions& options, Precision precision, ThreadPool& pool) {
  const std::string& device = options.device;
  const bool cuda = device == "cuda" || device.starts_with("cuda:");
  if (!cuda) {
    if (precision == Precision::kF32 || precision == Precision::kBF16) return CreateCpuDevice(device, pool);
    return InvalidArgument("the CPU computes in f32 and bf16; f16 and tf32 need --device cuda");
  }
  int ordinal = 0;
  if (device != "cuda") {
    const char* end = device.data() + device.size();
    const auto [at, error] = std::from_chars(device.data() + 5, end, ordinal);
    if (error != std::errc() || at != end || ordinal < 0) {
      return InvalidArgument("{} is no device; GPUs are cuda:0, cuda:1, …", device);
    }
  }
  return CreateGpuDevice({ordinal, precision, options.batch_invariant, options.gpu_memory_bytes});
}

KernelChoice ChooseKernel(std::span<const KernelEntry> entries, const OpDesc& desc) {
  KernelChoice choice;
  for (const KernelEntry& entry : entries) {
    if (desc.op != entry.op) continue;
    const auto reason = entry.refuse(desc);
    if (!reason) {
      choice.entry = &entry;
      break;
    }
    choice.refusals.push_back(std::string(entry.name) + ": " + *reason);
  }
  return choice;
}

Result<std::unique_ptr<Kernel>> CreateKernel(std::span<const KernelEntry> entries, const OpDesc& desc,
                                             KernelChoice* told) {
  const KernelChoice choice = ChooseKernel(entries, desc);
  if (choice.entry == nullptr) {
    std::string reasons;
    for (const std::string& refusal : choice.refusals) reasons += (reasons.empty() ? ": " : "; ") + refusal;
    return Unimplemented("node %{}: no implementation of {} accepts it{}", desc.node, desc.op, reasons);
  }
  if (told != nullptr) *told = choice;
  auto kernel = choice.entry->create(desc);
  if (kernel.ok()) return kernel;
  return kernel.status().WithContext("node %" + desc.node + " (" + desc.op + ", " + choice.entry->name + ")");
}

}  // namespace ting
