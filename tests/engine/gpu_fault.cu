// tests/engine/gpu_fault.cu
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include "tests/engine/gpu_fault.h"

namespace ting::testing {
namespace {

__global__ void TrapKernel() { __trap(); }

}  // namespace

bool BreakGpu(int ordinal) {
  if (cudaSetDevice(ordinal) != cudaSuccess) return false;
  TrapKernel<<<1, 1>>>();
  return cudaDeviceSynchronize() != cudaSuccess;
}

}  // namespace ting::testing
