// src/kernels/cuda/conv_generic.cu
// SPDX-License-Identifier: Apache-2.0
//
// ConvGeneric as a tiled product without tensor cores: the operand of an output position is gathered from x, where the
// taps of one row lie next to each other (channels are innermost).
#include "kernels/cuda/conv_parameters.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/ragged.cuh"

namespace ting::cuda {
namespace {

constexpr int kPositions = 64, kChannels = 64, kDepth = 16;  // of a block's tile
constexpr int kEach = 4;                                     // a thread sums 4 x 4 outputs, each 16 apart
constexpr int kThreads = kPositions * kChannels / (kEach * kEach);

struct Position {
  int64_t x;  // its first element of x; -1: there is none
  int64_t y;
  int column;  // its first frequency
};

__device__ Position FindPosition(const ConvParameters& p, int64_t index) {
  const int row = static_cast<int>(index / p.F_out), f = static_cast<int>(index % p.F_out);
  if (row >= p.out_offsets[p.B]) return {-1, 0, 0};
  const int b = SequenceOfRow(p.out_offsets, p.B, row);
  const int64_t row_in = p.in_offsets[b] + static_cast<int64_t>(row - p.out_offsets[b]) * p.stride;
  return {(row_in * p.F_in + f * p.stride) * p.C_in, (static_cast<int64_t>(row) * p.F_out + f) * p.C_out, f * p.stride};
}

// Block (x, y): positions from 64 x on, channels from 64 y on. Thread: positions i = thread / 16 + 16 * {0..3},
// channels thread % 16 + 16 * {0..3}.
template <typename X, typename T>
__global__ void __launch_bounds__(kThreads) ConvGenericKernel(ConvParameters p) {
  __shared__ float a[kDepth][kPositions + 1];
  __shared__ float w[kDepth][kChannels + 1];
  __shared__ Position positions[kPositions];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 16, group = thread / 16;
  const int channel0 = static_cast<int>(blockIdx.y) * kChannels;
  if (thread < kPositions) positions[thread] = FindPosition(p, int64_t{blockIdx.x} * kPositions + thread);
  __syncthreads();
  if (positions[0].x < 0) return;

  const int depth = p.kernel * p.kernel * p.C_in, row_depth = p.kernel * p.C_in;
  const T* weight = static_cast<const T*>(p.weight);
  float sum[kEach][kEach] = {};
  for (int k0 = 0; k0 < depth; k0 += kDepth) {
    const int k = k0 + lane, tap = k / row_depth, column = k % row_depth;
    for (int i = group; i < kPositions; i += kThreads / 16) {
      const Position& at = positions[i];
      float v = 0;
      if (k < depth && at.x >= 0) {
        v = ToFloat(static_cast<const X*>(p.x)[at.x + int64_t{tap} * p.F_in * p.C_in + column]);
        if (p.mean != nullptr) v = (v - p.mean[at.column + column]) * p.istd[at.column + column];
      }
      a[lane][i] = v;
    }
    for (int i = group; i < kChannels; i += kThreads / 16) {
      const int channel = channel0 + i;
      w[lane][i] = k < depth && channel < p.C_out ? ToFloat(weight[int64_t{channel} * depth + k]) : 0.0F;
    }
    __syncthreads();
#pragma unroll
    for (int step = 0; step < kDepth; ++step) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) sum[i][j] = fmaf(a[step][group + 16 * i], w[step][lane + 16 * j], sum[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const Position& at = positions[group + 16 * i];
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int channel = channel0 + lane + 16 * j;
      if (at.x < 0 || channel >= p.C_out) continue;
      const float bias = p.bias != nullptr ? p.bias[channel] : 0.0F;
      static_cast<T*>(p.y)[at.y + channel] = FromFloat<T>(fmaxf(sum[i][j] + bias, 0.0F));
    }
  }
}

}  // namespace

ConvKernelFunction FindConvGeneric(DType storage, bool features) {
  if (storage == DType::kF32) return ConvGenericKernel<float, float>;
  if (storage == DType::kF16)
    return features ? ConvGenericKernel<float, __half> : ConvGenericKernel<__half, __half>;
  return features ? ConvGenericKernel<float, __nv_bfloat16> : ConvGenericKernel<__nv_bfloat16, __nv_bfloat16>;
}

dim3 ConvGenericGrid(const ConvParameters& p, int64_t max_rows_out) {
  const int64_t blocks = (max_rows_out * p.F_out + kPositions - 1) / kPositions;
  return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>((p.C_out + kChannels - 1) / kChannels));
}

}  // namespace ting::cuda
