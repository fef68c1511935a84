// src/kernels/cuda/conv_pair_math.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What both kernels of ConvPair do to their sums.
#pragma once

#include "kernels/cuda/device_math.cuh"

namespace ting::cuda {

// Two neighbouring values, negative ones as 0, in one 32-bit register, the lower one first; saturated like FromFloat.
// One instruction: maxima and minima of their own would cost the first stage as much as half of its products.
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

// Word j of lane q goes to word q of lane j, within quads of lanes: pairs of columns become 16 bytes to store at once.
__device__ inline void TransposeQuad(uint32_t (&w)[4]) {
  const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
#pragma unroll
  for (int j = 0; j < 4; j += 2) {
    const uint32_t received = __shfl_xor_sync(0xFFFFFFFF, odd ? w[j] : w[j + 1], 1);
    w[j] = odd ? received : w[j];
    w[j + 1] = odd ? w[j + 1] : received;
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const uint32_t received = __shfl_xor_sync(0xFFFFFFFF, upper ? w[j] : w[j + 2], 2);
    w[j] = upper ? received : w[j];
    w[j + 2] = upper ? w[j + 2] : received;
  }
}

}  // namespace ting::cuda
