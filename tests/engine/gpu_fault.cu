// tests/engine/gpu_fault.cu
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include "tests/engine/gpu_fault.h"

namespace ting::testing {
namespace {

__global__ void TrapKernel() { __trap(); }

}  // namespace

// On a stream of its own: a look at the whole device would end what other threads are recording, before they could
// hear of the loss.
bool BreakGpu(int ordinal) {
  cudaStream_t stream = nullptr;
  if (cudaSetDevice(ordinal) != cudaSuccess) return false;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) return false;
  TrapKernel<<<1, 1, 0, stream>>>();
  return cudaStreamSynchronize(stream) != cudaSuccess;
}

}  // namespace ting::testing
