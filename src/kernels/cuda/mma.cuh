// src/kernels/cuda/mma.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Warp-wide matrix products (mma.sync) and their operand loads: the instructions that every GPU since 8.0 has. One
// function an instruction.
//
// Fragments of m16n8k16, g = lane / 4, t = lane % 4, two neighbouring 16-bit elements a register:
//   A [16, 16]  a[0]: (g, 2t), a[1]: (g + 8, 2t), a[2]: (g, 2t + 8), a[3]: (g + 8, 2t + 8)
//   B [16, 8]   b0: (2t, g) and (2t + 1, g), b1: 8 further down
//   C [16, 8]   c[0], c[1]: (g, 2t), (g, 2t + 1); c[2], c[3]: the row g + 8
// So the accumulators of two neighbouring C, packed, are an A.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"

namespace ting::cuda {

// c += A B with f32 sums.
template <typename T>
__device__ inline void Mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ inline void Mma<__half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void Mma<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. Each lane receives of
// each matrix the elements (g, 2t), (g, 2t + 1), or transposed (2t, g), (2t + 1, g).
__device__ inline void LoadMatrices(uint32_t (&m)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}
__device__ inline void LoadMatricesTransposed(uint32_t (&m)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

// 2^x in one instruction, relative error 2^-22; -inf gives 0.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// As Pack2 of values known to be in range: no saturation.
template <typename T>
__device__ inline uint32_t PackSmall(float low, float high);
template <>
__device__ inline uint32_t PackSmall<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  uint32_t packed;
  memcpy(&packed, &pair, sizeof packed);
  return packed;
}
template <>
__device__ inline uint32_t PackSmall<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t packed;
  memcpy(&packed, &pair, sizeof packed);
  return packed;
}

}  // namespace ting::cuda
