// src/kernels/cuda/row_gemm_stationary_float_epilogue.cuh
// SPDX-License-Identifier: Apache-2.0
//
// From the transposed sums of a warpgroup, 64 columns of 32 rows, to f32 results. Thread t holds, of columns
// 16 * (t / 32) + t % 32 / 4 and 8 further on, rows 2 * (t % 4) and the next in every 8. The warpgroup adds them to the
// residual in shared memory and reads that back row by row, so that what it stores is whole lines.
#pragma once

#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/row_gemm_stationary.h"

namespace ting::cuda::stationary {

class FloatEpilogue {
 public:
  // Of a group's columns from `column0` on.
  __device__ FloatEpilogue(const RowGemmParameters& p, int column0)
      : p_(p), column0_(column0), thread_(static_cast<int>(threadIdx.x) % 128) {
    const float* bias = p.bias != nullptr ? p.bias + column0 + Column() : nullptr;
    bias0_ = bias != nullptr ? bias[0] : 0, bias1_ = bias != nullptr ? bias[8] : 0;
  }

  // `count` rows from `row0` on, at most a tile's. `residual` is swizzled tiles of 32 columns.
  __device__ void Store(const float (&sum)[kTileRows / 2], uint8_t* residual, int row0, int count) const {
    const int n = column0_ % kBlockN + Column(), r = 2 * (thread_ % 4);
    float* at[4] = {Float(residual, r, n), Float(residual, r + 1, n), Float(residual, r, n + 8),
                    Float(residual, r + 1, n + 8)};
#pragma unroll
    for (int i = 0; i < kTileRows / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) Add(at[j] + i * 8 * kWidth, sum[4 * i + j] + (j < 2 ? bias0_ : bias1_));
    }
    NamedBarrier(1 + static_cast<int>(threadIdx.x) / 128, 128);
    const int row = thread_ / 16, column = 4 * (thread_ % 16);
    const float* from = Float(residual, row, column0_ % kBlockN + column);
    float* y = static_cast<float*>(p_.y) + (row0 + row) * p_.y_stride + column0_ + column;
#pragma unroll
    for (int i = 0; i < kTileRows / 8; ++i) {
      const float4 v = *reinterpret_cast<const float4*>(from + i * 8 * kWidth);
      if (8 * i + row < count) *reinterpret_cast<float4*>(y + 8 * i * p_.y_stride) = v;
    }
  }

 private:
  static constexpr int kWidth = 32;  // floats of a tile's row

  __device__ int Column() const { return thread_ / 32 * 16 + thread_ % 32 / 4; }
  // Rows that differ modulo 8 have a column in different banks.
  __device__ static float* Float(uint8_t* residual, int row, int column) {
    uint8_t* tile = residual + column / kWidth * kTileRows * kSwizzleRowBytes;
    return reinterpret_cast<float*>(tile + SwizzledByte(row, 2 * (column % kWidth)));
  }
  __device__ void Add(float* residual, float v) const {
    *residual = fmaf(p_.scale, v, p_.residual != nullptr ? *residual : 0.0F);
  }

  const RowGemmParameters& p_;
  const int column0_, thread_;
  float bias0_, bias1_;
};

}  // namespace ting::cuda::stationary
