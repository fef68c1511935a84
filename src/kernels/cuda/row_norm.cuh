// src/kernels/cuda/row_norm.cuh
// SPDX-License-Identifier: Apache-2.0
//
// LayerNorm of f32 rows into swizzled tiles of 16-bit elements in shared memory (hopper.cuh): the A operand of a
// product.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"

namespace ting::cuda {

// Eight lanes share a row, so that a sum over it takes three shuffles for four rows at once (with a row a warp it would
// be five for one, and shuffles would cost as much as the reads). A lane holds columns 4 * lane + 32 * j.
struct RowNorm {
  const float* x;
  int64_t stride;
  const float* gamma;  // nullptr: x is only rounded
  const float* beta;
  float eps;

  // 64 rows from `row0` on by one warpgroup into K / 64 tiles of 64 rows; rows from `rows` on become those of a zero
  // row.
  template <typename T, int K>
  __device__ void Rows(int row0, int rows, uint8_t* tiles) const {
    constexpr int kPasses = 512 / K;  // of four rows, in flight together: 64 registers
    const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
    const int column = 4 * (lane % 8);
#pragma unroll 1
    for (int first = 0; first < 4; first += kPasses) {
      float4 v[kPasses][K / 32];
      float scale[kPasses];
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        Load<K>(row0 + RowOf(warp, lane, first + pass), rows, column, v[pass]);
      }
      if (gamma != nullptr) {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) scale[pass] = Centre<K>(v[pass]);
      }
#pragma unroll
      for (int j = 0; j < K / 32; ++j) {
        if (gamma != nullptr) {
          const float4 g = *reinterpret_cast<const float4*>(gamma + column + 32 * j);
          const float4 b = *reinterpret_cast<const float4*>(beta + column + 32 * j);
#pragma unroll
          for (int pass = 0; pass < kPasses; ++pass) Apply(scale[pass], g, b, v[pass][j]);
        }
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
          Store<T>(RowOf(warp, lane, first + pass), column + 32 * j, v[pass][j], tiles);
        }
        if (j % 2 == 1) asm volatile("" ::: "memory");  // all of gamma and beta at once would cost 64 registers more
      }
    }
  }

 private:
  // Lanes of one half-warp store rows that differ by 4: their swizzled addresses fall into different banks.
  __device__ static int RowOf(int warp, int lane, int pass) {
    const int quarter = lane / 8;
    return 16 * warp + 8 * (pass / 2) + 2 * (pass % 2) + 4 * (quarter % 2) + quarter / 2;
  }
  template <int K>
  __device__ void Load(int row, int rows, int column, float4 (&v)[K / 32]) const {
    const float* source = x + row * stride + column;
#pragma unroll
    for (int j = 0; j < K / 32; ++j) {
      v[j] = row < rows ? *reinterpret_cast<const float4*>(source + 32 * j) : make_float4(0, 0, 0, 0);
    }
  }
  __device__ static float SumOverRow(float v) {
#pragma unroll
    for (int offset = 4; offset > 0; offset /= 2) v += __shfl_xor_sync(0xFFFFFFFF, v, offset);
    return v;
  }
  // Takes the mean away; returns 1 / sqrt(variance + eps).
  template <int K>
  __device__ float Centre(float4 (&v)[K / 32]) const {
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < K / 32; ++j) sum.x += v[j].x, sum.y += v[j].y, sum.z += v[j].z, sum.w += v[j].w;
    const float mean = SumOverRow((sum.x + sum.y) + (sum.z + sum.w)) * (1.0F / K);
    float4 square = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < K / 32; ++j) {
      v[j].x -= mean, v[j].y -= mean, v[j].z -= mean, v[j].w -= mean;
      square.x = fmaf(v[j].x, v[j].x, square.x), square.y = fmaf(v[j].y, v[j].y, square.y);
      square.z = fmaf(v[j].z, v[j].z, square.z), square.w = fmaf(v[j].w, v[j].w, square.w);
    }
    return rsqrtf(SumOverRow((square.x + square.y) + (square.z + square.w)) * (1.0F / K) + eps);
  }
  __device__ static void Apply(float scale, const float4& g, const float4& b, float4& v) {
    v.x = fmaf(v.x * scale, g.x, b.x), v.y = fmaf(v.y * scale, g.y, b.y);
    v.z = fmaf(v.z * scale, g.z, b.z), v.w = fmaf(v.w * scale, g.w, b.w);
  }
  template <typename T>
  __device__ static void Store(int row, int column, const float4& v, uint8_t* tiles) {
    uint8_t* tile = tiles + column / kTileColumns * 64 * kSwizzleRowBytes;
    *reinterpret_cast<uint2*>(tile + SwizzledByte(row, column % kTileColumns)) =
        make_uint2(Pack2<T>(v.x, v.y), Pack2<T>(v.z, v.w));
  }
};

}  // namespace ting::cuda
