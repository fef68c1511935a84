// src/runtime/gpu_device.h
// SPDX-License-Identifier: Apache-2.0
//
// The GPU as a Device, in builds with and without the CUDA backend.
#pragma once

#include <cstddef>
#include <memory>

#include "runtime/device.h"
#include "ting/options.h"
#include "ting/status.h"

namespace ting {

struct GpuOptions {
  int ordinal = 0;
  Precision precision = Precision::kF32;
  bool batch_invariant = false;
  size_t memory_limit_bytes = 0;  // allocations beyond it fail as if the GPU had no more; 0: all there is
};

// Refuses with what is missing: the backend in this build, the driver, a GPU of that number, or a newer one.
Result<std::unique_ptr<Device>> CreateGpuDevice(const GpuOptions& options);

// GPUs that the driver shows, at least one; refuses as CreateGpuDevice does.
Result<int> CountGpus();

}  // namespace ting
