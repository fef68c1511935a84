// src/kernels/cuda/row_gemm_epilogue.cuh
// SPDX-License-Identifier: Apache-2.0
//
// From a thread's sums of a 64 x N tile (the layout of wgmma's accumulators, hopper.cuh) to y. Sums come in groups of
// four for 8 columns: columns 2 * q and 2 * q + 1 (q = lane % 4) of `row`, then of row + 8.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/row_gemm_kernel.h"

namespace ting::cuda {

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

template <typename T, int kTileN, RowGemmOutput kOutput>
class RowGemmEpilogue {
 public:
  // The tile starts at `column0`; `bias` is that of its columns, in shared memory, 0 beyond N.
  __device__ RowGemmEpilogue(const RowGemmParameters& p, int row, int rows, int column0, const float* bias)
      : p_(p), row_(row), column0_(column0), quad_(static_cast<int>(threadIdx.x) % 4), bias_(bias) {
    has_row_[0] = row < rows, has_row_[1] = row + 8 < rows;
  }

  // The residual of the tile into registers.
  __device__ void LoadResidual(float2 (&residual)[kTileN / 8][2]) const {
#pragma unroll
    for (int g = 0; g < kTileN / 8; ++g) LoadResidualOf(g, residual[g]);
  }
  __device__ void StoreFloats(float (&sum)[kTileN / 2], const float2 (&residual)[kTileN / 8][2]) const {
#pragma unroll
    for (int g = 0; g < kTileN / 8; ++g) StoreFloatsOf(g, BiasOf(g), residual[g], &sum[4 * g]);
  }

  __device__ void Store(float (&sum)[kTileN / 2]) const {
    if constexpr (kOutput == RowGemmOutput::kFloat) {
#pragma unroll
      for (int g = 0; g < kTileN / 8; g += 4) {
        float2 residual[4][2];
#pragma unroll
        for (int j = 0; j < 4; ++j) LoadResidualOf(g + j, residual[j]);
#pragma unroll
        for (int j = 0; j < 4; ++j) StoreFloatsOf(g + j, BiasOf(g + j), residual[j], &sum[4 * (g + j)]);
      }
    } else {
#pragma unroll
      for (int g = 0; g < kTileN / 8; ++g) AddBias(BiasOf(g), &sum[4 * g]);
      if constexpr (kOutput == RowGemmOutput::kHalf) StoreHalf(sum);
      if constexpr (kOutput == RowGemmOutput::kGlu) StoreGlu(sum);
    }
  }

  // One group of 8 columns alone.
  __device__ void StoreGroup(int g, float (&sum)[4]) const {
    if constexpr (kOutput == RowGemmOutput::kFloat) {
      float2 residual[2];
      LoadResidualOf(g, residual);
      StoreFloatsOf(g, BiasOf(g), residual, sum);
    } else {
      AddBias(BiasOf(g), sum);
      ActivateAll(sum);
      T* y = static_cast<T*>(p_.y) + row_ * p_.y_stride + column0_ + 8 * g + 2 * quad_;
      if (column0_ + 8 * g >= p_.N) return;
      if (has_row_[0]) *reinterpret_cast<uint32_t*>(y) = Pack2<T>(sum[0], sum[1]);
      if (has_row_[1]) *reinterpret_cast<uint32_t*>(y + 8 * p_.y_stride) = Pack2<T>(sum[2], sum[3]);
    }
  }

 private:
  __device__ float2 BiasOf(int g) const { return *reinterpret_cast<const float2*>(bias_ + 8 * g + 2 * quad_); }
  __device__ static void AddBias(float2 bias, float* sum) {
    sum[0] += bias.x, sum[1] += bias.y, sum[2] += bias.x, sum[3] += bias.y;
  }
  template <int kCount>
  __device__ void ActivateAll(float (&sum)[kCount]) const {
    const auto apply = [&](auto activate) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) sum[i] = activate(sum[i]);
    };
    if (p_.activation == Activation::kRelu) apply([](float v) { return Activate<Activation::kRelu>(v); });
    if (p_.activation == Activation::kSwish) apply([](float v) { return Activate<Activation::kSwish>(v); });
    if (p_.activation == Activation::kGelu) apply([](float v) { return Activate<Activation::kGelu>(v); });
  }
  __device__ void StoreHalf(float (&sum)[kTileN / 2]) const {
    ActivateAll(sum);
#pragma unroll
    for (int g = 0; g < kTileN / 8; g += 4) {
      uint32_t first[4], second[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* v = &sum[4 * (g + j)];
        first[j] = Pack2<T>(v[0], v[1]);
        second[j] = Pack2<T>(v[2], v[3]);
      }
      StoreWords(first, second, column0_ + 8 * g, p_.N);
    }
  }
  __device__ void StoreGlu(const float (&sum)[kTileN / 2]) const {
#pragma unroll
    for (int g = 0; g < kTileN / 8; g += 8) {
      uint32_t first[4], second[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* a = &sum[4 * (g + 2 * j)];
        const float* b = a + 4;
        first[j] = Pack2<T>(a[0] * Sigmoid(b[0]), a[1] * Sigmoid(b[1]));
        second[j] = Pack2<T>(a[2] * Sigmoid(b[2]), a[3] * Sigmoid(b[3]));
      }
      StoreWords(first, second, (column0_ + 8 * g) / 2, p_.N / 2);
    }
  }
  // 4 groups of 8 columns of a quad's two rows; `columns` of y exist, a multiple of 8.
  __device__ void StoreWords(uint32_t (&first)[4], uint32_t (&second)[4], int column, int columns) const {
    TransposeQuad(first);
    TransposeQuad(second);
    column += 8 * quad_;
    if (column >= columns) return;
    T* y = static_cast<T*>(p_.y) + row_ * p_.y_stride + column;
    if (has_row_[0]) *reinterpret_cast<uint4*>(y) = make_uint4(first[0], first[1], first[2], first[3]);
    y += 8 * p_.y_stride;
    if (has_row_[1]) *reinterpret_cast<uint4*>(y) = make_uint4(second[0], second[1], second[2], second[3]);
  }
  __device__ void LoadResidualOf(int g, float2 (&residual)[2]) const {
    const int left = p_.N - column0_ - 2 * quad_ - 8 * g;  // columns from the pair on
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      residual[half] = make_float2(0, 0);
      if (p_.residual == nullptr || !has_row_[half] || left <= 0) continue;
      const float* source = p_.residual + (row_ + 8 * half) * p_.residual_stride + column0_ + 2 * quad_ + 8 * g;
      if (p_.pairs && left > 1) {
        residual[half] = *reinterpret_cast<const float2*>(source);
      } else {
        residual[half].x = source[0];
        if (left > 1) residual[half].y = source[1];
      }
    }
  }
  __device__ void StoreFloatsOf(int g, float2 bias, const float2 (&residual)[2], const float* sum) const {
    const int left = p_.N - column0_ - 2 * quad_ - 8 * g;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!has_row_[half] || left <= 0) continue;
      const float2 value = {fmaf(p_.scale, sum[2 * half] + bias.x, residual[half].x),
                            fmaf(p_.scale, sum[2 * half + 1] + bias.y, residual[half].y)};
      float* y = static_cast<float*>(p_.y) + (row_ + 8 * half) * p_.y_stride + column0_ + 2 * quad_ + 8 * g;
      if (p_.pairs && left > 1) {
        *reinterpret_cast<float2*>(y) = value;
      } else {
        y[0] = value.x;
        if (left > 1) y[1] = value.y;
      }
    }
  }

  const RowGemmParameters& p_;
  const int row_, column0_, quad_;
  const float* bias_;
  bool has_row_[2];
};

}  // namespace ting::cuda
