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

class PastEvent : public Event {
 public:
  Status Record(Stream&) override { return Status(); }
  Status Wait() override { return Status(); }
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

// The number in `name` from `begin` to `end`.
Result<int> ParseOrdinal(const std::string& name, size_t begin, size_t end) {
  int ordinal = 0;
  const auto [at, error] = std::from_chars(name.data() + begin, name.data() + end, ordinal);
  if (error == std::errc() && at == name.data() + end && ordinal >= 0) return ordinal;
  return InvalidArgument("{} is no device; GPUs are cuda:0, cuda:1, …, several at once cuda:0,1 or cuda:all", name);
}

}  // namespace

Result<std::unique_ptr<Event>> Device::CreateEvent() { return std::unique_ptr<Event>(std::make_unique<PastEvent>()); }

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

Result<std::vector<std::string>> ExpandDevices(const std::string& name) {
  constexpr std::string_view kGpus = "cuda:";
  std::vector<std::string> devices;
  if (name == "cuda:all") {
    TING_ASSIGN_OR_RETURN(const int count, CountGpus());
    for (int i = 0; i < count; ++i) devices.push_back(fmt::format("{}{}", kGpus, i));
    return devices;
  }
  if (!name.starts_with(kGpus)) return std::vector<std::string>{name};
  for (size_t at = kGpus.size(), end = 0; end < name.size(); at = end + 1) {
    end = std::min(name.find(',', at), name.size());
    TING_ASSIGN_OR_RETURN(const int ordinal, ParseOrdinal(name, at, end));
    std::string device = fmt::format("{}{}", kGpus, ordinal);
    if (std::find(devices.begin(), devices.end(), device) != devices.end()) {
      return InvalidArgument("{} names GPU {} twice", name, ordinal);
    }
    devices.push_back(std::move(device));
  }
  return devices;
}

Result<std::unique_ptr<Device>> CreateDevice(const RecognizerOptions& options, Precision precision, ThreadPool& pool) {
  const std::string& device = options.device;
  const bool cuda = device == "cuda" || device.starts_with("cuda:");
  if (!cuda) {
    if (precision != Precision::kF16 && precision != Precision::kTF32) return CreateCpuDevice(device, pool);
    return InvalidArgument("the CPU computes in f32, bf16, int16, bf16x1 and bf16x3; f16 and tf32 need --device cuda");
  }
  if (precision == Precision::kBF16 || precision == Precision::kBF16x3 || precision == Precision::kInt16) {
    return InvalidArgument(
        "a GPU computes in f32, tf32, f16, bf16 and bf16x1, not in {}; f16 and tf32 are nearest to f32",
        PrecisionName(precision));
  }
  if (device == "cuda:all" || device.find(',') != std::string::npos) {
    return InvalidArgument("{} names several devices; one is needed here, such as cuda:0", device);
  }
  int ordinal = 0;
  if (device != "cuda") {
    TING_ASSIGN_OR_RETURN(ordinal, ParseOrdinal(device, std::string_view("cuda:").size(), device.size()));
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
