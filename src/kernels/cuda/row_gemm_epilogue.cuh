// src/kernels/cuda/row_gemm_epilogue.cuh
// SPDX-License-Identifier: Apache-2.0
//
// From a thread's sums of a 64 x N tile (the layout of wgmma's accumulators, hopper.cuh) to y. A warp has 16 rows of
// the tile for itself: it leaves rows of 128 bytes in its part of shared memory and reads them back row by row, so that
// its stores (and the reads of the residual) are whole lines, whatever y is, and no other warp is waited for.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/row_gemm_kernel.h"

namespace ting::cuda {

// Without `kActivates` the activation is none, whatever p says: less than half of the code.
template <typename T, int kTileN, RowGemmOutput kOutput, bool kActivates = kOutput == RowGemmOutput::kHalf>
class RowGemmEpilogue {
 public:
  static constexpr int kChunks = kTileN / 32;  // of 32 floats
  using Residual = float4[kChunks][4];

  // `row0` is the warp's first row, `column0` the tile's first column; `bias` is that of its columns, in shared memory,
  // 0 beyond N; `staging` the warp's own kRowGemmStaging bytes.
  __device__ RowGemmEpilogue(const RowGemmParameters& p, int row0, int rows, int column0, const float* bias,
                             uint8_t* staging)
      : p_(p), row0_(row0), rows_(rows), column0_(column0), lane_(threadIdx.x % 32), bias_(bias), staging_(staging) {
    if constexpr (kOutput == RowGemmOutput::kHalf) FindScatteredRows();
  }

  // The residual of the tile into registers, if it can be read by fours.
  __device__ void LoadResidual(Residual& residual) const {
    const float* source = p_.residual + (row0_ + lane_ / 8) * p_.residual_stride + column0_ + 4 * (lane_ % 8);
    const bool given = p_.residual != nullptr && p_.fours;
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool wanted = given && FourExists(chunk, i);
        const float* four = source + 4 * i * p_.residual_stride + 32 * chunk;
        residual[chunk][i] = wanted ? *reinterpret_cast<const float4*>(four) : make_float4(0, 0, 0, 0);
      }
    }
  }
  __device__ void StoreFloats(const float (&sum)[kTileN / 2], const Residual& residual) const {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      __syncwarp();  // the chunk before has been read
#pragma unroll
      for (int g = 0; g < 4; ++g) {
        const float* v = &sum[4 * (4 * chunk + g)];
        *FloatPair(lane_ / 4, g) = make_float2(v[0], v[1]);
        *FloatPair(lane_ / 4 + 8, g) = make_float2(v[2], v[3]);
      }
      __syncwarp();
      if (p_.fours) {
        StoreFours(chunk, residual[chunk]);
      } else {
        StoreSingles(chunk);
      }
    }
  }

  // kHalf and kGlu.
  __device__ void StoreHalf(float (&sum)[kTileN / 2]) const {
#pragma unroll
    for (int g = 0; g < kTileN / 8; ++g) AddBias(g, &sum[4 * g]);
    if constexpr (kActivates) ActivateAll(sum);
    constexpr bool kGlu = kOutput == RowGemmOutput::kGlu;
#pragma unroll
    for (int first = 0; first < kColumns; first += kWidth) {
      __syncwarp();
#pragma unroll
      for (int g = 0; g < kWidth / 8; g += 2) {
        uint32_t words[4];
#pragma unroll
        for (int j = 0; j < 2; ++j) Words(&sum[4 * (first / 8 + g + j) * (kGlu ? 2 : 1)], &words[2 * j]);
        StoreMatrices(Sixteen(lane_ % 16, g + lane_ / 16), words[0], words[1], words[2], words[3]);
      }
      __syncwarp();
      StoreRows((kGlu ? column0_ / 2 : column0_) + first, kGlu ? p_.N / 2 : p_.N);
    }
  }

  // One group of 8 columns alone, of a thread's two rows.
  __device__ void StoreGroup(int g, float (&sum)[4]) const {
    if constexpr (kOutput == RowGemmOutput::kHalf) AddBias(g, sum), ActivateAll(sum);
    const int column = column0_ + 8 * g + 2 * (lane_ % 4);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0_ + lane_ / 4 + 8 * half;
      if (row < rows_ && column < p_.N) StorePair(row, column, sum[2 * half], sum[2 * half + 1]);
    }
  }

 private:
  static constexpr int kColumns = kOutput == RowGemmOutput::kGlu ? kTileN / 2 : kTileN;  // 16-bit ones of a tile
  static constexpr int kWidth = kColumns < 64 ? kColumns : 64;                           // that are staged at once
  static constexpr int kLanes = kWidth / 8, kRows = 32 / kLanes;                         // of a load from the stage

  // Early, so that they are there when the product is.
  __device__ void FindScatteredRows() {
    scatters_ = p_.scatter.rows != nullptr && column0_ >= p_.scatter.first_column;
    if (!scatters_) return;
#pragma unroll
    for (int i = 0; i < 16 / kRows; ++i) {
      const int row = row0_ + kRows * i + lane_ / kLanes;
      if (row < rows_) scattered_rows_[i] = p_.scatter.rows[row];
    }
  }
  // 16 bytes of a staged row of 128; rows that differ modulo 8 have them in different banks.
  __device__ uint8_t* Sixteen(int row, int index) const { return staging_ + row * 128 + ((index ^ (row & 7)) << 4); }
  // Columns 8 * g + 2 * (lane % 4) and the next of a staged row of floats; four rows at once are in different banks.
  __device__ float2* FloatPair(int row, int g) const {
    const int index = (2 * g + lane_ % 4 / 2) ^ ((row & 3) << 1);
    return reinterpret_cast<float2*>(staging_ + row * 128 + (index << 4) + (lane_ % 2 << 3));
  }
  __device__ bool FourExists(int chunk, int i) const {
    return row0_ + 4 * i + lane_ / 8 < rows_ && column0_ + 32 * chunk + 4 * (lane_ % 8) < p_.N;
  }
  // A staged row of 32 floats takes 8 lanes.
  __device__ void StoreFours(int chunk, const float4 (&residual)[4]) const {
    const float4 bias = *reinterpret_cast<const float4*>(bias_ + 32 * chunk + 4 * (lane_ % 8));
    float* y = static_cast<float*>(p_.y) + (row0_ + lane_ / 8) * p_.y_stride + column0_ + 32 * chunk + 4 * (lane_ % 8);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = 4 * i + lane_ / 8, index = lane_ % 8 ^ ((row & 3) << 1);
      const float4 v = *reinterpret_cast<const float4*>(staging_ + row * 128 + (index << 4));
      const float4 r = residual[i];
      const float4 result = {fmaf(p_.scale, v.x + bias.x, r.x), fmaf(p_.scale, v.y + bias.y, r.y),
                             fmaf(p_.scale, v.z + bias.z, r.z), fmaf(p_.scale, v.w + bias.w, r.w)};
      if (FourExists(chunk, i)) *reinterpret_cast<float4*>(y + 4 * i * p_.y_stride) = result;
    }
  }
  // Any width and stride: a row at once.
  __device__ void StoreSingles(int chunk) const {
    const int column = column0_ + 32 * chunk + lane_;
    if (column >= p_.N) return;
    const float bias = bias_[32 * chunk + lane_];
    float* y = static_cast<float*>(p_.y) + row0_ * p_.y_stride + column;
    const float* residual = p_.residual + row0_ * p_.residual_stride + column;
    const int count = min(16, rows_ - row0_);
#pragma unroll 4
    for (int row = 0; row < count; ++row) {
      const int index = lane_ / 4 ^ ((row & 3) << 1);
      const float v = *reinterpret_cast<const float*>(staging_ + row * 128 + (index << 4) + (lane_ % 4 << 2));
      const float r = p_.residual != nullptr ? residual[row * p_.residual_stride] : 0.0F;
      y[row * p_.y_stride] = fmaf(p_.scale, v + bias, r);
    }
  }

  __device__ void AddBias(int g, float* sum) const {
    const float2 bias = *reinterpret_cast<const float2*>(bias_ + 8 * g + 2 * (lane_ % 4));
    sum[0] += bias.x, sum[1] += bias.y, sum[2] += bias.x, sum[3] += bias.y;
  }
  template <int kCount>
  __device__ void ActivateAll(float (&sum)[kCount]) const {
    const auto apply = [&](auto activate) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) sum[i] = activate(sum[i]);
    };
    if (p_.activation == Activation::kRelu) apply([](float v) { return Activate<Activation::kRelu>(v); });
    if (p_.activation == Activation::kSwish) apply([](float v) { return v * SigmoidFast(v); });
    if (p_.activation == Activation::kGelu) apply([](float v) { return Activate<Activation::kGelu>(v); });
  }
  // A group of 8 columns of a thread's two rows, as elements. For GLU the group of the gate follows that of a.
  __device__ static void Words(const float* v, uint32_t* words) {
    if constexpr (kOutput == RowGemmOutput::kGlu) {
      words[0] = PackSaturated<T>(v[0] * SigmoidFast(v[4]), v[1] * SigmoidFast(v[5]));
      words[1] = PackSaturated<T>(v[2] * SigmoidFast(v[6]), v[3] * SigmoidFast(v[7]));
    } else {
      words[0] = PackSaturated<T>(v[0], v[1]);
      words[1] = PackSaturated<T>(v[2], v[3]);
    }
  }
  // Staged rows of kWidth elements to columns from `column` on; `columns` exist, a multiple of 8.
  __device__ void StoreRows(int column, int columns) const {
    column += 8 * (lane_ % kLanes);
    T* y = static_cast<T*>(p_.y) + (row0_ + lane_ / kLanes) * p_.y_stride + column;
    T* scattered = static_cast<T*>(p_.scatter.y) + column - p_.scatter.first_column;
#pragma unroll
    for (int i = 0; i < 16 / kRows; ++i) {
      const int row = kRows * i + lane_ / kLanes;
      const uint4 v = *reinterpret_cast<const uint4*>(Sixteen(row, lane_ % kLanes));
      T* target = y + kRows * i * p_.y_stride;
      if (scatters_) target = scattered + scattered_rows_[i] * p_.scatter.stride;
      if (row0_ + row < rows_ && column < columns) *reinterpret_cast<uint4*>(target) = v;
    }
  }
  __device__ void StorePair(int row, int column, float first, float second) const {
    if constexpr (kOutput == RowGemmOutput::kFloat) {
      float* y = static_cast<float*>(p_.y) + row * p_.y_stride + column;
      const float* residual = p_.residual + row * p_.residual_stride + column;
      const float2 bias = *reinterpret_cast<const float2*>(bias_ + column - column0_);
      const bool whole = column + 1 < p_.N;
      float2 r = {0, 0};
      if (p_.residual != nullptr && p_.fours) r = *reinterpret_cast<const float2*>(residual);
      if (p_.residual != nullptr && !p_.fours) r = {residual[0], whole ? residual[1] : 0};
      r = {fmaf(p_.scale, first + bias.x, r.x), fmaf(p_.scale, second + bias.y, r.y)};
      if (p_.fours) {
        *reinterpret_cast<float2*>(y) = r;
      } else {
        y[0] = r.x;
        if (whole) y[1] = r.y;
      }
    } else {
      *reinterpret_cast<uint32_t*>(static_cast<T*>(p_.y) + row * p_.y_stride + column) =
          PackSaturated<T>(first, second);
    }
  }

  const RowGemmParameters& p_;
  const int row0_, rows_, column0_, lane_;
  const float* bias_;
  uint8_t* staging_;
  bool scatters_ = false;
  int scattered_rows_[16 / kRows] = {};
};

}  // namespace ting::cuda
