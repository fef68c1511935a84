// src/runtime/no_gpu_device.cc
// SPDX-License-Identifier: Apache-2.0
//
// Stands in for runtime/cuda in builds without it.
#include "base/status_macros.h"
#include "runtime/gpu_device.h"

namespace ting {
namespace {

Status NoBackend() {
  return FailedPrecondition(
      "this build has no GPU backend; build it with the CUDA toolkit installed, or use --device cpu");
}

}  // namespace

Result<std::unique_ptr<Device>> CreateGpuDevice(const GpuOptions&) { return NoBackend(); }
Result<int> CountGpus() { return NoBackend(); }

}  // namespace ting
