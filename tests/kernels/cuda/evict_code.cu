// tests/kernels/cuda/evict_code.cu
// SPDX-License-Identifier: Apache-2.0
//
// A kernel of 256 KB of straight code, more than an SM's instruction caches hold: what runs after it starts as cold as
// a kernel in a model that runs a dozen others between two of its launches.
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/launch.h"
#include "tests/kernels/cuda/gemm_testing.h"

namespace ting::cuda {
namespace {

#define TING_STEP                                                                                    \
  "fma.rn.f32 %0, %0, %4, %5; fma.rn.f32 %1, %1, %4, %5; fma.rn.f32 %2, %2, %4, %5; fma.rn.f32 %3, " \
  "%3, %4, %5;\n"
#define TING_8(text) text text text text text text text text

__global__ void EvictCodeKernel(float a, float b, float* sums) {
  WaitForPreviousKernel();
  float v0 = a, v1 = b, v2 = a + b, v3 = a - b;
  asm volatile(TING_8(TING_8(TING_8(TING_8(TING_STEP)))) : "+f"(v0), "+f"(v1), "+f"(v2), "+f"(v3) : "f"(a), "f"(b));
  if (sums != nullptr) *sums = v0 + v1 + v2 + v3;
}

}  // namespace

Status EvictCode(cudaStream_t stream) {
  return Launch(EvictCodeKernel, {dim3(132), dim3(32), 0, 1, true}, stream, 0.5F, 0.25F, static_cast<float*>(nullptr));
}

}  // namespace ting::cuda
