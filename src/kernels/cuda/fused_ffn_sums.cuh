// src/kernels/cuda/fused_ffn_sums.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The end of the fused feed-forward kernel: partial sums become rows of y. It is short of everything but latency, so
// whatever a warp reads is in flight at once and its rows are reduced side by side.
#pragma once

#include "kernels/cuda/fused_ffn_rows.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Where the blocks of a tile send each other rows of their sums.
struct Exchange {
  float* partial;      // this block's sums, [tile_rows][kPartialStride], or the first half of 32-row tiles
  float* second_half;  // of 32-row tiles
  float* received;     // by 32-row tiles: rows that this block finishes, [OwnRows][split][2][kHalfD]
  uint64_t* barrier;   // counts the bytes of `received`
};

// A thread's accumulators of 64 rows and 2 * N columns from `column` on.
template <int N>
__device__ __forceinline__ void StorePartial(const float (&acc)[N], float* partial, int first_row, int column,
                                             int lane) {
  float* upper = partial + (first_row + lane / 4) * kPartialStride + column + 2 * (lane % 4);
#pragma unroll
  for (int block = 0; block < N / 4; ++block) {
    *reinterpret_cast<float2*>(upper + 8 * block) = make_float2(acc[4 * block], acc[4 * block + 1]);
    *reinterpret_cast<float2*>(upper + 8 * kPartialStride + 8 * block) = make_float2(acc[4 * block + 2], acc[4 * block + 3]);
  }
}
// The same of 64 columns from `column` on and 32 rows, which are the columns of the accumulators, into a half.
__device__ __forceinline__ void StorePartialTransposed(const float (&acc)[16], float* half, int column, int lane) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int row = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
    half[row * kHalfD + ((column + lane / 4 + 8 * (i / 2 % 2)) ^ HalfSwizzle(row))] = acc[i];
  }
}

struct Row8 {  // a lane's eight values of a row: columns 4 * lane ... and 128 + 4 * lane ...
  float v[8];
};
__device__ __forceinline__ Row8 MakeRow(const float4& a, const float4& b) {
  return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
}
__device__ __forceinline__ Row8 LoadRow(const float* row, int lane) {
  return MakeRow(Load4(row + 4 * lane), Load4(row + 128 + 4 * lane));
}

template <int kCount>
__device__ __forceinline__ void SumOverWarp(float (&sum)[kCount]) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] += __shfl_xor_sync(0xFFFFFFFF, sum[i], offset);
  }
}
template <int kCount>
__device__ __forceinline__ void NormRows(Row8 (&rows)[kCount], const float* gamma, const float* beta, float eps,
                                         int lane) {
  float sum[kCount] = {};
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int k = 0; k < 8; ++k) sum[i] += rows[i].v[k];
  }
  SumOverWarp(sum);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float mean = sum[i] * (1.0F / kD);
    sum[i] = 0;
#pragma unroll
    for (int k = 0; k < 8; ++k) rows[i].v[k] -= mean, sum[i] += rows[i].v[k] * rows[i].v[k];
  }
  SumOverWarp(sum);
  const Row8 g = LoadRow(gamma, lane), b = LoadRow(beta, lane);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float scale = rsqrtf(sum[i] * (1.0F / kD) + eps);
#pragma unroll
    for (int k = 0; k < 8; ++k) rows[i].v[k] = rows[i].v[k] * scale * g.v[k] + b.v[k];
  }
}

// Block j of a tile finishes rows j, j + split, ...

// Announces the bytes that the others will send or have sent; one thread of a 32-row tile.
__device__ __forceinline__ void ExpectRows(const Arguments& arguments, const Place& place, const Exchange& exchange,
                                           int tile_rows) {
  const int split = arguments.split;
  const int own = place.slice < tile_rows ? (tile_rows - place.slice + split - 1) / split : 0;
  BarrierExpect(exchange.barrier, own * (split - 1) * kD * static_cast<int>(sizeof(float)));
}
// Sends the others their rows of a half of the sums, which all consumers have stored; a row a lane, each block beginning
// with another receiver. Loads of remote shared memory would wait twice, and for both halves.
__device__ __forceinline__ void PushHalf(const Arguments& arguments, const Place& place, const Exchange& exchange,
                                         int half, int tile_rows, int warp, int lane) {
  constexpr int kRows = 32, kWarps = kConsumers / 32;
  FenceAsyncProxy();
  NamedBarrier(1, kConsumers);
  const int split = arguments.split;
  const int row = (warp + kWarps * lane + place.slice + 1) % kRows, owner = row % split;
  if (lane < kRows / kWarps && row < tile_rows && owner != place.slice) {
    const int block = place.tile * split + owner;
    const float* sums = half == 0 ? exchange.partial : exchange.second_half;
    PushToBlock(MapToBlock(exchange.received + (row / split * split + place.slice) * kD + half * kHalfD, block),
                sums + row * kHalfD, kHalfD * sizeof(float), MapToBlock(exchange.barrier, block));
  }
  __syncwarp();
}

// The second of the two cluster barriers that all threads of a cluster pass lets no block leave before it is read; the
// first one tells that `received` is free. That of 32-row tiles always is, so that they arrive when they start.
template <int kTileRows>
__device__ __forceinline__ void MeetCluster() {
  if constexpr (kTileRows == 32) {
    ClusterWait();
  } else {
    ClusterSync();
  }
}

// Adds the partial sums of the rows that this block finishes, for kLeast <= split <= kMost, in the order of the slices.
// Tiles of more than 32 rows read them where they are: there is no room for more, and to send so many takes as long.
template <int kLeast, int kMost, int kTileRows>
__device__ __forceinline__ void FinishRows(const Arguments& arguments, const Place& place, const Exchange& exchange,
                                           const float* vectors, int valid_rows, int warp, int lane) {
  constexpr int kWarps = kConsumers / 32;
  constexpr int kRows = (OwnRows(kTileRows, kLeast) + kWarps - 1) / kWarps;  // of a warp, at most
  constexpr int kBatch = kMost == 1 ? 4 : kMost < 8 ? 8 / kMost : 1;
  constexpr bool kPush = kTileRows == 32 && kMost > 1;
  const int split = arguments.split, tile_rows = min(kTileRows, valid_rows - place.first_row);
  const auto row_of = [&](int i) { return (i * kWarps + warp) * split + place.slice; };
  const auto valid = [&](int i) { return row_of(i) < tile_rows; };
  const bool residual = arguments.residual != 0;
  Row8 x[kRows] = {};
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int64_t row = place.first_row + row_of(i);
    if (residual && valid(i)) x[i] = LoadRow(arguments.x + row * kD, lane);
  }
  if (kPush && threadIdx.x == 0) ExpectRows(arguments, place, exchange, tile_rows);
  if (kTileRows != 32) MeetCluster<kTileRows>();
  if (!valid(0)) {  // most warps, where few rows are split by many
    ClusterArrive();
    ClusterWait();
    return;
  }
  const Row8 b2 = LoadRow(vectors + kB2, lane);
  if (kPush) BarrierWait(exchange.barrier, 0);
#pragma unroll
  for (int first = 0; first < kRows; first += kBatch) {
    constexpr int kLast = kRows - 1;
    float4 parts[kBatch][kMost][2];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i > kLast || !valid(first + i)) continue;
      const int row = row_of(first + i);
      const float* own = exchange.partial + row * kPartialStride + 4 * lane;
#pragma unroll
      for (int part = 0; part < kMost; ++part) {
        if (part >= kLeast && part >= split) continue;
        float4(&v)[2] = parts[i][part];
        if constexpr (kTileRows != 32) {
          const uint32_t address = MapToBlock(own, place.tile * split + part);
          v[0] = LoadRemote4(address), v[1] = LoadRemote4(address + 128 * sizeof(float));
        } else {
          const int column = 4 * lane ^ HalfSwizzle(row);
          const float* sent = exchange.received + (row / split * split + part) * kD;
          v[0] = Load4((part == place.slice ? exchange.partial + row * kHalfD : sent) + column);
          v[1] = Load4((part == place.slice ? exchange.second_half + row * kHalfD : sent + kHalfD) + column);
        }
      }
    }
    Row8 sums[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      Row8& sum = sums[i];
      if (first + i > kLast || !valid(first + i)) {
        sum = {};
        continue;
      }
      sum = MakeRow(parts[i][0][0], parts[i][0][1]);
#pragma unroll
      for (int part = 1; part < kMost; ++part) {
        if (part >= kLeast && part >= split) continue;
        const Row8 p = MakeRow(parts[i][part][0], parts[i][part][1]);
#pragma unroll
        for (int k = 0; k < 8; ++k) sum.v[k] += p.v[k];
      }
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        sum.v[k] += b2.v[k];
        if (residual && first + i <= kLast) sum.v[k] = x[first + i].v[k] + arguments.residual * sum.v[k];
      }
    }
    if (first + kBatch > kLast) ClusterArrive();
    if (arguments.post_gamma != nullptr) {
      NormRows(sums, vectors + kPostGamma, vectors + kPostBeta, arguments.post_eps, lane);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i > kLast || !valid(first + i)) continue;
      const float* v = sums[i].v;
      float* y = arguments.y + static_cast<int64_t>(place.first_row + row_of(first + i)) * kD + 4 * lane;
      Store4(y, make_float4(v[0], v[1], v[2], v[3]));
      Store4(y + 128, make_float4(v[4], v[5], v[6], v[7]));
    }
  }
  __syncwarp();
  ClusterWait();
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
