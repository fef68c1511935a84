// src/kernels/cuda/device_math.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What every CUDA kernel needs: storage types to and from f32, sums over a warp or a block in a fixed order, activations.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#include "kernels/params.h"

namespace ting::cuda {

template <typename T>
__device__ inline T FromFloat(float v) {
  return static_cast<T>(v);
}
template <>
__device__ inline __half FromFloat<__half>(float v) {  // saturates: an overflow to infinity would poison a whole row
  return __float2half_rn(fminf(fmaxf(v, -65504.0F), 65504.0F));
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}
__device__ inline float ToFloat(float v) { return v; }
__device__ inline float ToFloat(__half v) { return __half2float(v); }
__device__ inline float ToFloat(__nv_bfloat16 v) { return __bfloat162float(v); }

// Two neighbouring values in one 32-bit register, the lower one first.
template <typename T>
__device__ inline uint32_t Pack2(float low, float high) {
  const T pair[2] = {FromFloat<T>(low), FromFloat<T>(high)};
  uint32_t packed;
  memcpy(&packed, pair, sizeof packed);
  return packed;
}

__device__ inline float WarpSum(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xFFFFFFFF, v, offset);
  return v;
}
__device__ inline float WarpMax(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFF, v, offset));
  return v;
}

// 1 if a < b, or 0; of a NaN: 0. The sign of a difference: a comparison takes an instruction more to be counted, or to
// become a bit among others.
__device__ inline uint32_t IsLess(float a, float b) { return __float_as_uint(a - b) >> 31; }

__device__ inline float Sigmoid(float v) { return 1.0F / (1.0F + __expf(-v)); }
// One unit in the last place less exact: without the branch for divisors that 1 + exp cannot have.
__device__ inline float SigmoidFast(float v) { return __fdividef(1.0F, 1.0F + __expf(-v)); }

template <Activation kActivation>
__device__ inline float Activate(float v) {
  if constexpr (kActivation == Activation::kRelu) return fmaxf(v, 0.0F);
  if constexpr (kActivation == Activation::kSwish) return v * Sigmoid(v);
  if constexpr (kActivation == Activation::kGelu) return 0.5F * v * (1.0F + erff(v * 0.70710678F));
  return v;
}

}  // namespace ting::cuda
