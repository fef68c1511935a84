// src/kernels/cuda/conv_pair_math.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What ConvPair does to its sums.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda {

// Two neighbouring values, negative ones as 0, in one 32-bit register, the lower one first; saturated like FromFloat.
// One instruction: maxima and minima of their own would be most of what the first stage costs.
template <typename T>
__device__ inline uint32_t PackRelu2(float low, float high);
template <>
__device__ inline uint32_t PackRelu2<__half>(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.relu.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
template <>
__device__ inline uint32_t PackRelu2<__nv_bfloat16>(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// d[64, 16] += A[64, 16] B[16, 16]^T as Wgmma's (hopper.cuh), A in registers.
template <typename T>
__device__ inline void AddTaps(float (&d)[8], const uint32_t (&a)[4], uint64_t b);
template <>
__device__ inline void AddTaps<__half>(float (&d)[8], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, "
      "%9, %10, %11}, %12, 1, 1, 1, 0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
template <>
__device__ inline void AddTaps<__nv_bfloat16>(float (&d)[8], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, "
      "%9, %10, %11}, %12, 1, 1, 1, 0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

}  // namespace ting::cuda
