// src/runtime/device.h
// SPDX-License-Identifier: Apache-2.0
//
// A place where graphs run: its memory, its streams and its ordered kernels. The planner and the executor know
// only this; a GPU is another subclass.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kernel.h"
#include "ting/status.h"

namespace ting {

// Memory of a device; freed with the object.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual std::byte* data() = 0;
  virtual size_t size() const = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;
  virtual Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) = 0;
  // The weight where kernels of this device can read it; on the CPU the bytes as they are.
  virtual Result<WeightView> Upload(const WeightView& weight) = 0;
  virtual std::unique_ptr<Stream> CreateStream() = 0;
  // Implementations, best first; the first that does not refuse a node runs it.
  virtual std::span<const KernelEntry> kernels() const = 0;
};

// The CPU. `backend`: "cpu" (own kernels, then ref) or "ref" alone. The pool outlives the device.
Result<std::unique_ptr<Device>> CreateCpuDevice(const std::string& backend, ThreadPool& pool);

// The first implementation of `desc.op` that accepts it; its name through `chosen`, and every refusal before it
// ("cpu.avx512: …") through `refusals`.
Result<std::unique_ptr<Kernel>> CreateKernel(std::span<const KernelEntry> entries, const OpDesc& desc,
                                             std::string* chosen, std::vector<std::string>* refusals);

}  // namespace ting
