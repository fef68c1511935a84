// src/kernels/cuda/row_gemm_stationary_epilogue.cuh
// SPDX-License-Identifier: Apache-2.0
//
// From the transposed sums of a warpgroup, 64 columns of 32 rows, to 16-bit results. Thread t holds, of columns
// 16 * (t / 32) + t % 32 / 4 and 8 further on, rows 2 * (t % 4) and the next in every 8. The warpgroup leaves rows in
// shared memory and reads them back row by row, so that what it stores is whole lines.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/row_gemm_stationary.h"

namespace ting::cuda::stationary {

using Sums = float[kTileRows / 2];

template <typename T, RowGemmOutput kOutput>
class Epilogue {
 public:
  // Of a group's columns from `column0` on.
  __device__ Epilogue(const RowGemmParameters& p, int column0)
      : p_(p),
        column0_(column0),
        thread_(static_cast<int>(threadIdx.x) % 128),
        barrier_(1 + static_cast<int>(threadIdx.x) / 128),
        scatters_(kOutput == RowGemmOutput::kHalf && p.scatter.rows != nullptr && column0 >= p.scatter.first_column) {
    const float* bias = p.bias != nullptr ? p.bias + column0 + Column() : nullptr;
    bias0_ = bias != nullptr ? bias[0] : 0, bias1_ = bias != nullptr ? bias[8] : 0;
  }

  // Of rows from `row0` on; early, so that they are there when the product is. Rows up to M may be read.
  __device__ void FindScatteredRows(int row0) {
    if (!scatters_) return;
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      if (row0 + RowOf(i) < p_.M) scattered_rows_[i] = p_.scatter.rows[row0 + RowOf(i)];
    }
  }

  // The group's two `staging` areas take turns, so that one meeting is enough.
  __device__ void StoreHalf(Sums& sum, uint8_t* staging, int row0, int count) const {
#pragma unroll
    for (int i = 0; i < kTileRows / 2; ++i) sum[i] += i % 4 < 2 ? bias0_ : bias1_;
    if constexpr (kOutput == RowGemmOutput::kHalf) ActivateAll(sum);
    Stage(sum, staging);
    Meet();
    const int column = (kGlu ? column0_ / 2 : column0_) + 8 * (thread_ % kLanes);
    T* y = static_cast<T*>(p_.y) + row0 * p_.y_stride + column;
    T* scattered = static_cast<T*>(p_.scatter.y) + column - p_.scatter.first_column;
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      const int row = RowOf(i);
      const uint4 v = *reinterpret_cast<const uint4*>(Sixteen(staging, row, thread_ % kLanes));
      T* target = scatters_ ? scattered + scattered_rows_[i] * p_.scatter.stride : y + row * p_.y_stride;
      if (row < count) *reinterpret_cast<uint4*>(target) = v;
    }
  }

 private:
  static constexpr bool kGlu = kOutput == RowGemmOutput::kGlu;
  static constexpr int kLanes = kGlu ? 4 : 8;  // that store a row
  static constexpr int kPasses = kTileRows * kLanes / 128;

  __device__ void Meet() const { NamedBarrier(barrier_, 128); }
  __device__ int Column() const { return thread_ / 32 * 16 + thread_ % 32 / 4; }
  __device__ int RowOf(int pass) const { return 128 / kLanes * pass + thread_ / kLanes; }
  // 16 bytes of a staged row of 128; rows that differ modulo 8 have them in different banks.
  __device__ static uint8_t* Sixteen(uint8_t* staging, int row, int index) {
    return staging + row * 128 + ((index ^ (row & 7)) << 4);
  }

  // Four blocks of 8 x 8 at once: the 16 columns of a warp and two blocks of rows, or its 8 channels and four.
  __device__ void Stage(const Sums& sum, uint8_t* staging) const {
    constexpr int kAtOnce = kGlu ? 4 : 2;
    const int lane = thread_ % 32, warp = thread_ / 32, matrix = lane / 8;
#pragma unroll
    for (int first = 0; first < kTileRows / 8; first += kAtOnce) {
      uint32_t words[4];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const float* v = &sum[4 * (first + j)];
        if constexpr (kGlu) {
          words[j] = PackSaturated<T>(v[0] * SigmoidFast(v[2]), v[1] * SigmoidFast(v[3]));
        } else {
          words[2 * j] = PackSaturated<T>(v[0], v[1]);
          words[2 * j + 1] = PackSaturated<T>(v[2], v[3]);
        }
      }
      const int row = 8 * (first + (kGlu ? matrix : matrix / 2)) + lane % 8;
      StoreMatricesTransposed(Sixteen(staging, row, kGlu ? warp : 2 * warp + matrix % 2), words);
    }
  }
  __device__ void ActivateAll(Sums& sum) const {
    const auto apply = [&](auto activate) {
#pragma unroll
      for (int i = 0; i < kTileRows / 2; ++i) sum[i] = activate(sum[i]);
    };
    if (p_.activation == Activation::kRelu) apply([](float v) { return Activate<Activation::kRelu>(v); });
    if (p_.activation == Activation::kSwish) apply([](float v) { return v * SigmoidFast(v); });
    if (p_.activation == Activation::kGelu) apply([](float v) { return Activate<Activation::kGelu>(v); });
  }

  const RowGemmParameters& p_;
  const int column0_, thread_, barrier_;
  const bool scatters_;
  float bias0_, bias1_;
  int scattered_rows_[kPasses] = {};
};

}  // namespace ting::cuda::stationary
