// src/kernels/cuda/fused_ffn_exchange.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The end of the fused feed-forward kernel for split tiles (fused_ffn_split.cu): each block sends the others of its
// tile their rows of its sums, in halves of the columns, and adds what it receives in the order of the slices.
#pragma once

#include "kernels/cuda/fused_ffn_rows.cuh"
#include "kernels/cuda/fused_ffn_sums.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Of each half of the columns.
struct HalfExchange {
  float* sums;        // this block's, [rows][kHalfD], swizzled
  float* received;    // from the other blocks, of rows that this block finishes, [split - 1][own rows][kHalfD]
  uint64_t* barrier;  // counts the bytes of `received`
};

// The rows of a tile that a block finishes: one part of `split` that are as equal as can be.
struct OwnedRows {
  int most, first, count;
  __device__ __forceinline__ OwnedRows(const Arguments& arguments, int tile_rows, int block)
      : most(DivideBy(tile_rows + arguments.split - 1, arguments.split_inverse)),
        first(block * most),
        count(max(0, min(most, tile_rows - first))) {}
};

// Announces the bytes that the others will send or have sent; one thread.
__device__ __forceinline__ void ExpectSums(const Arguments& arguments, const Place& place, uint64_t* received,
                                           int tile_rows) {
  const OwnedRows own(arguments, tile_rows, place.slice);
  const int bytes = own.count * (arguments.split - 1) * kHalfD * static_cast<int>(sizeof(float));
  BarrierExpect(received, bytes);
  BarrierExpect(received + 1, bytes);
}

template <int kRows>
class SplitEnd {
 public:
  __device__ __forceinline__ SplitEnd(const Arguments& arguments, const Place& place, const HalfExchange (&halves)[2],
                                       int tile_rows, int warp, int lane)
      : arguments_(arguments),
        place_(place),
        halves_(halves),
        tile_rows_(tile_rows),
        own_(arguments, tile_rows, place.slice),
        warp_(warp),
        lane_(lane) {}

  // A thread's sums of one half, of 64 columns by kRows rows of its warpgroup.
  __device__ __forceinline__ void Keep(const float (&sums)[kRows / 2], int half) const {
    const int column = warp_ * 16 + lane_ / 4;
#pragma unroll
    for (int i = 0; i < kRows / 2; ++i) {
      const int row = 8 * (i / 4) + 2 * (lane_ % 4) + i % 2;
      halves_[half].sums[row * kHalfD + ((column + 8 * (i / 2 % 2)) ^ HalfSwizzle(row))] = sums[i];
    }
    FenceAsyncProxy();
    NamedBarrier(1, kConsumers);
  }
  // What Keep has stored, by one copy for each other block, beginning with the next: a copy takes its thread a hundred
  // clocks, however long it is.
  __device__ __forceinline__ void Send(int half) const {
    const int split = arguments_.split;
    if (lane_ == 0) {
#pragma unroll 1
      for (int i = warp_ + 1; i < split; i += kWarps) {
        const int block = place_.slice + i - (place_.slice + i < split ? 0 : split);
        const OwnedRows rows(arguments_, tile_rows_, block);
        const int sender = place_.slice - (place_.slice > block ? 1 : 0);
        if (rows.count == 0) continue;
        PushToBlock(MapToBlock(halves_[half].received + sender * rows.count * kHalfD, block),
                    halves_[half].sums + rows.first * kHalfD, rows.count * kHalfD * sizeof(float),
                    MapToBlock(halves_[half].barrier, block));
      }
    }
    __syncwarp();
  }
  // Adds each half when it has arrived and writes y. Before the last cluster barrier no block leaves: its sums may
  // still be on their way.
  __device__ __forceinline__ void Finish(const float* vectors) const {
    Row8 x[2] = {LoadInput(warp_), LoadInput(warp_ + kWarps)};
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      const HalfExchange exchange = half == 0 ? halves_[0] : halves_[1];
      BarrierWait(exchange.barrier, 0);
      for (int i = warp_; i < own_.count; i += kWarps) AddParts(exchange, i);
    }
    __syncwarp();
    ClusterArriveRelaxed();
#pragma unroll 1
    for (int i = warp_; i < own_.count; i += kWarps) {
      Row8 y[1] = {MakeRow(Load4(OwnSums(halves_[0], i)), Load4(OwnSums(halves_[1], i)))};
      const Row8 bias = LoadRow(vectors + kB2, lane_);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const float f = y[0].v[k] + bias.v[k];
        y[0].v[k] = arguments_.residual == 0 ? f : x[0].v[k] + arguments_.residual * f;
      }
      x[0] = x[1], x[1] = LoadInput(i + 2 * kWarps);
      if (arguments_.post_gamma != nullptr) {
        NormRows(y, vectors + kPostGamma, vectors + kPostBeta, arguments_.post_eps, lane_);
      }
      float* target = arguments_.y + GlobalOffset(i) + 4 * lane_;
      Store4(target, make_float4(y[0].v[0], y[0].v[1], y[0].v[2], y[0].v[3]));
      Store4(target + kHalfD, make_float4(y[0].v[4], y[0].v[5], y[0].v[6], y[0].v[7]));
    }
    __syncwarp();
    ClusterWait();
  }

 private:
  __device__ __forceinline__ int64_t GlobalOffset(int i) const {
    return static_cast<int64_t>(place_.first_row + own_.first + i) * kD;
  }
  __device__ __forceinline__ float* OwnSums(const HalfExchange& half, int i) const {
    const int row = own_.first + i;
    return half.sums + row * kHalfD + (4 * lane_ ^ HalfSwizzle(row));
  }
  // For the residual.
  __device__ __forceinline__ Row8 LoadInput(int i) const {
    if (arguments_.residual == 0 || i >= own_.count) return Row8{};
    return LoadRow(arguments_.x + GlobalOffset(i), lane_);
  }
  // The sums of all slices, in their order, of four columns a lane, in place of this block's own; eight are in flight
  // at once.
  __device__ __forceinline__ void AddParts(const HalfExchange& half, int i) const {
    constexpr int kAtOnce = 8;
    const int split = arguments_.split, slice = place_.slice;
    float* own = OwnSums(half, i);
    const float* sent = half.received + i * kHalfD + (4 * lane_ ^ HalfSwizzle(own_.first + i));
    float4 sum = make_float4(-0.0F, -0.0F, -0.0F, -0.0F);
#pragma unroll 1
    for (int first = 0; first < split; first += kAtOnce) {
      float4 parts[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int part = first + j;
        if (part >= split) continue;
        parts[j] = Load4(part == slice ? own : sent + (part - (part > slice ? 1 : 0)) * own_.count * kHalfD);
      }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        if (first + j >= split) continue;
        sum.x += parts[j].x, sum.y += parts[j].y, sum.z += parts[j].z, sum.w += parts[j].w;
      }
    }
    Store4(own, sum);
  }

  const Arguments& arguments_;
  const Place& place_;
  const HalfExchange (&halves_)[2];
  const int tile_rows_;
  const OwnedRows own_;
  const int warp_, lane_;
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
