// src/kernels/cuda/host_copy.cu
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/host_copy.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

constexpr int kThreads = 128;

// Past every cache: the host writes the same place again for the next step.
__global__ void CopyFromPinnedKernel(uint4* device, const uint4* pinned, int words) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= words) return;
  uint4 v;
  asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(pinned + i)
               : "memory");
  device[i] = v;
}

}  // namespace

Status CopyFromPinned(void* device, const void* pinned, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return Status();
  const int words = static_cast<int>(bytes / 16);
  const LaunchShape shape{dim3(static_cast<unsigned>((words + kThreads - 1) / kThreads)), dim3(kThreads)};
  return Launch(CopyFromPinnedKernel, shape, stream, static_cast<uint4*>(device), static_cast<const uint4*>(pinned),
                words);
}

}  // namespace ting::cuda
