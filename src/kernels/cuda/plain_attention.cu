// src/kernels/cuda/plain_attention.cu
// SPDX-License-Identifier: Apache-2.0
//
// Self and cross attention in f32: the kernel that decides what the 16-bit ones are compared with on the GPU. Plain
// multiply-adds, no tf32. A block has 32 query rows of one sequence and one head, a warp four of them; a lane has one
// of 32 keys for the scores and every 32nd column for the sums. k + P is added once, when a block of keys comes in.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/ragged_attention.cuh"

namespace ting::cuda {
namespace {

constexpr int kWarps = 8, kRowsPerWarp = 4, kKeys = 32;
constexpr int kRows = kWarps * kRowsPerWarp;

// Row strides in shared memory: four floats more than the width, so that the lanes of a vector load hit all banks.
template <int kColumns>
struct PlainShared {
  static constexpr int kWidth = kColumns * 32, kStride = kWidth + 4;
  float q[kRows][kStride];
  float k[kKeys][kStride];
  float v[kKeys][kWidth];
  float p[kWarps][kKeys][kRowsPerWarp];
};

// target[i][d] = source[i][d] (+ added[i][d]) for rows < rows and d < width; 0 elsewhere.
template <int kColumns, int kStride>
__device__ inline void LoadRows(float (&target)[32][kStride], const float* source, int64_t stride, const float* added,
                                int64_t added_stride, int rows, int width) {
  const int lane = threadIdx.x % 32;
#pragma unroll(kColumns > 4 ? 1 : 32 / kWarps)  // all at once would take too many registers
  for (int n = 0; n < 32 / kWarps; ++n) {
    const int row = n * kWarps + static_cast<int>(threadIdx.x) / 32;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int column = c * 32 + lane;
      const bool valid = row < rows && column < width;
      float value = valid ? source[row * stride + column] : 0.0F;
      if (added != nullptr && valid) value += added[row * added_stride + column];
      target[row][column] = value;
    }
  }
}

template <int kColumns>
struct PlainSums {
  float largest[kRowsPerWarp], sum[kRowsPerWarp], o[kRowsPerWarp][kColumns];
};

// The scores of the warp's rows with the lane's key.
template <int kColumns>
__device__ inline void PlainScores(const PlainShared<kColumns>& shared, int width, float (&s)[kRowsPerWarp]) {
  const int row = threadIdx.x / 32 * kRowsPerWarp, lane = threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) s[r] = 0;
#pragma unroll 4
  for (int d = 0; d < width; d += 4) {  // zeros pad the width to a multiple of four
    const float4 k = *reinterpret_cast<const float4*>(&shared.k[lane][d]);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const float4 q = *reinterpret_cast<const float4*>(&shared.q[row + r][d]);
      s[r] = fmaf(q.w, k.w, fmaf(q.z, k.z, fmaf(q.y, k.y, fmaf(q.x, k.x, s[r]))));
    }
  }
}

template <int kColumns>
__device__ inline void PlainValues(PlainShared<kColumns>& shared, const float (&weights)[kRowsPerWarp],
                                   PlainSums<kColumns>& sums) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float4* p = reinterpret_cast<float4*>(&shared.p[warp][0][0]);
  p[lane] = float4{weights[0], weights[1], weights[2], weights[3]};
  __syncwarp();
#pragma unroll 4
  for (int j = 0; j < kKeys; ++j) {
    const float4 weight = p[j];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float v = shared.v[j][c * 32 + lane];
      sums.o[0][c] = fmaf(weight.x, v, sums.o[0][c]);
      sums.o[1][c] = fmaf(weight.y, v, sums.o[1][c]);
      sums.o[2][c] = fmaf(weight.z, v, sums.o[2][c]);
      sums.o[3][c] = fmaf(weight.w, v, sums.o[3][c]);
    }
  }
  __syncwarp();
}

template <int kColumns>
__global__ void __launch_bounds__(kWarps * 32) PlainAttentionKernel(const __grid_constant__ RaggedAttention p) {
  extern __shared__ __align__(16) unsigned char bytes[];
  auto& shared = *reinterpret_cast<PlainShared<kColumns>*>(bytes);
  WaitForPreviousKernel();
  const QueryTile tile = FindTile<kRows>(p);
  if (tile.count == 0) return;

  const int warp_row = threadIdx.x / 32 * kRowsPerWarp, lane = threadIdx.x % 32;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * p.head_width;
  LoadRows<kColumns>(shared.q, static_cast<const float*>(p.q) + tile.row * p.q_stride + column, p.q_stride, nullptr, 0,
                     tile.count, p.head_width);
  VisibleRange visible[kRowsPerWarp];
  PlainSums<kColumns> sums;
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    visible[r] = VisibleOf(p, tile.start + min(warp_row + r, tile.count - 1), tile.num_keys);
    sums.largest[r] = -INFINITY;
    sums.sum[r] = 0;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums.o[r][c] = 0;
  }

  const int end_key = VisibleOf(p, tile.start + tile.count - 1, tile.num_keys).last;
  int key = VisibleOf(p, tile.start, tile.num_keys).first / kKeys * kKeys;
  for (; key < end_key; key += kKeys) {
    const int64_t offset = (tile.key_row + key) * p.key_stride + column;
    const float* added =
        p.positions == nullptr ? nullptr : static_cast<const float*>(p.positions) + key * p.position_stride + column;
    __syncthreads();  // all are done with the keys before
    LoadRows<kColumns>(shared.k, static_cast<const float*>(p.k) + offset, p.key_stride, added, p.position_stride,
                       tile.num_keys - key, p.head_width);
    LoadRows<kColumns>(shared.v, static_cast<const float*>(p.v) + offset, p.key_stride, nullptr, 0, tile.num_keys - key,
                       p.head_width);
    const bool biased = p.key_bias != nullptr && key + lane < tile.num_keys;
    const float bias = biased ? p.key_bias[(key + lane) * p.bias_stride + blockIdx.y] * kLog2E : 0.0F;
    __syncthreads();

    float s[kRowsPerWarp];
    PlainScores(shared, p.head_width, s);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool sees = key + lane >= visible[r].first && key + lane < visible[r].last;
      s[r] = sees ? fmaf(s[r], p.scale_log2, bias) : -INFINITY;
      const float largest = fmaxf(sums.largest[r], WarpMax(s[r]));
      const float base = largest == -INFINITY ? 0.0F : largest;
      const float decay = Exp2(sums.largest[r] - base);
      s[r] = Exp2(s[r] - base);
      sums.largest[r] = largest;
      sums.sum[r] = fmaf(sums.sum[r], decay, s[r]);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sums.o[r][c] *= decay;
    }
    PlainValues(shared, s, sums);
  }

#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    const float sum = WarpSum(sums.sum[r]);
    if (warp_row + r >= tile.count) continue;
    const float inverse = sum > 0 ? 1.0F / sum : 0.0F;
    float* context = static_cast<float*>(p.context) + (tile.row + warp_row + r) * p.context_stride + column;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (c * 32 + lane < p.head_width) context[c * 32 + lane] = sums.o[r][c] * inverse;
    }
  }
}

template <int kColumns>
Status LaunchColumns(const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(problem.NumTiles(kRows), problem.heads);
  shape.block = dim3(kWarps * 32);
  shape.shared_bytes = sizeof(PlainShared<kColumns>);
  shape.dependent = dependent;
  if (Status status = AllowShared(PlainAttentionKernel<kColumns>, shape.shared_bytes); !status.ok()) return status;
  return Launch(PlainAttentionKernel<kColumns>, shape, stream, problem);
}

}  // namespace

Status LaunchPlainAttention(const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  if (problem.head_width <= 64) return LaunchColumns<2>(problem, dependent, stream);
  if (problem.head_width <= 128) return LaunchColumns<4>(problem, dependent, stream);
  return LaunchColumns<8>(problem, dependent, stream);
}

}  // namespace ting::cuda
