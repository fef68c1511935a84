// src/kernels/cuda/conv_pair_second.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The second stage of ConvPair as one product: rows are the positions of conv_pair_parameters.h, K is (tap, channel) in
// steps of 64. A block is 1 or 2 consumer warpgroups of 64 positions each, and a producer warp that fills a ring of
// stages. Blocks of a cluster share: those of a row of the cluster have the same positions, those of a column the same
// weights, and each block fetches its part and sends it to all that need it. With 128 x 256 tiles a block would otherwise
// fetch 48 KB for 1024 cycles of products, more than L2 gives all multiprocessors at once.
// Clusters stay and take unit after unit of work, so that the next one's operands arrive during the end of the last.
#pragma once

#include "kernels/cuda/conv_pair_math.cuh"
#include "kernels/cuda/conv_pair_parameters.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/ragged.cuh"

namespace ting::cuda {

template <int kGroups, int kTileN, int kClusterRows, int kClusterColumns>
struct ConvSecondShape {
  static constexpr ConvPairConfig kConfig = {kGroups, kTileN, kClusterRows, kClusterColumns};
  static constexpr ConvSecondLayout kLayout = ConvSecondLayoutOf(kConfig);
  static constexpr int kRows = 64 * kGroups, kStages = kLayout.stages;
  static constexpr int kClusterBlocks = kClusterRows * kClusterColumns;
  static constexpr int kABytes = kRows * kSwizzleRowBytes, kWeightBytes = kTileN * kSwizzleRowBytes;
  static constexpr int kStageBytes = kABytes + kWeightBytes;
  static constexpr int kPartRows = kRows / kClusterColumns, kPartColumns = kTileN / kClusterRows;  // that a block fetches
  // Blocks that this one's fetches go to: its row and its column.
  static constexpr int kPartners = kClusterRows + kClusterColumns - 1;
  static_assert(kStageBytes == kLayout.stage_bytes && kPartRows % 8 == 0 && kPartColumns % 8 == 0);
};

// Where a block's shared memory lies, its place in the cluster and the work.
template <typename Shape>
struct ConvSecondBlock {
  __device__ ConvSecondBlock(const ConvSecondParameters& p, uint8_t* shared) {
    ring = shared + ((1024 - (SharedAddress(shared) & 1023)) & 1023);
    full = reinterpret_cast<uint64_t*>(ring + Shape::kStages * Shape::kStageBytes);
    empty = full + Shape::kStages;
    bias = reinterpret_cast<float*>(empty + Shape::kStages);
    starts = reinterpret_cast<int32_t*>(bias + p.C);
    const int rank = static_cast<int>(ClusterRank());
    cluster_row = rank / Shape::kConfig.cluster_columns, cluster_column = rank % Shape::kConfig.cluster_columns;
    column_units = CeilDiv(p.C, Shape::kConfig.tile_n * Shape::kConfig.cluster_columns);
    steps = kTaps * p.C / kTileColumns;
  }
  __device__ static int CeilDiv(int a, int b) { return (a + b - 1) / b; }
  // After `starts` has been filled.
  __device__ int Units(const ConvSecondParameters& p) const {
    return CeilDiv(starts[p.B] * p.half, Shape::kRows * Shape::kConfig.cluster_rows) * column_units;
  }
  __device__ static int FirstUnit() { return static_cast<int>(blockIdx.x) / Shape::kClusterBlocks; }
  __device__ static int UnitStride() { return static_cast<int>(gridDim.x) / Shape::kClusterBlocks; }
  __device__ int Row(int unit) const {
    return (unit / column_units * Shape::kConfig.cluster_rows + cluster_row) * Shape::kRows;
  }
  __device__ int Column(int unit) const {
    return (unit % column_units * Shape::kConfig.cluster_columns + cluster_column) * Shape::kConfig.tile_n;
  }
  __device__ uint8_t* StageA(int stage) const { return ring + stage * Shape::kStageBytes; }
  __device__ uint8_t* StageW(int stage) const { return StageA(stage) + Shape::kABytes; }
  // The i-th block that sends to this one, and that this one sends to.
  __device__ uint32_t Partner(int i) const {
    constexpr int kColumns = Shape::kConfig.cluster_columns;
    if (i < kColumns) return static_cast<uint32_t>(cluster_row * kColumns + i);
    const int row = i - kColumns;
    return static_cast<uint32_t>((row < cluster_row ? row : row + 1) * kColumns + cluster_column);
  }

  static constexpr int kTaps = 9;
  uint8_t* ring;
  uint64_t* full;
  uint64_t* empty;
  float* bias;
  int32_t* starts;  // first plane row of each sequence, and the end
  int cluster_row, cluster_column, column_units, steps;
};

// One lane.
template <typename Shape>
__device__ inline void ProduceConv(const ConvSecondParameters& p, const ConvSecondBlock<Shape>& block) {
  constexpr int kRows = Shape::kConfig.cluster_rows, kColumns = Shape::kConfig.cluster_columns;
  const auto row_mask = static_cast<uint16_t>(((1 << kColumns) - 1) << (block.cluster_row * kColumns));
  uint16_t column_mask = 0;
  for (int row = 0; row < kRows; ++row) column_mask |= 1 << (row * kColumns + block.cluster_column);
  const int a_part = block.cluster_column * Shape::kPartRows, w_part = block.cluster_row * Shape::kPartColumns;
  const int channel_steps = p.C / kTileColumns, units = block.Units(p);

  int stage = 0;
  uint32_t parity = 1;  // the ring is empty at first
  for (int unit = block.FirstUnit(); unit < units; unit += block.UnitStride()) {
    const int row = block.Row(unit) + a_part, column = block.Column(unit) + w_part;
    for (int tap = 0; tap < block.kTaps; ++tap) {
      const int kt = tap / 3, kf = tap % 3;
      const int y = row + (kt % 2) * p.plane_positions + kt / 2 * p.half + kf / 2, x = kf % 2 * p.C;
      for (int i = 0; i < channel_steps; ++i) {
        BarrierWait(&block.empty[stage], parity);
        BarrierExpect(&block.full[stage], Shape::kStageBytes);
        TmaLoad2dMulticast(block.StageA(stage) + a_part * kSwizzleRowBytes, &p.a, &block.full[stage],
                           x + i * kTileColumns, y, row_mask);
        TmaLoad2dMulticast(block.StageW(stage) + w_part * kSwizzleRowBytes, &p.w, &block.full[stage],
                           (tap * channel_steps + i) * kTileColumns, column, column_mask);
        if (++stage == Shape::kStages) stage = 0, parity ^= 1;
      }
    }
  }
}

// Where a position's channels go in y, in elements; -1: nowhere.
template <typename Shape>
__device__ inline int64_t OutputOf(const ConvSecondParameters& p, const ConvSecondBlock<Shape>& block, int position) {
  const int row = position / p.half, f = position % p.half;
  if (f >= p.F_out || row >= block.starts[p.B]) return -1;
  const int b = SequenceOfRow(block.starts, p.B, row);
  if (row + 1 >= block.starts[b + 1]) return -1;  // the row without output
  return (int64_t{row - b} * p.F_out + f) * p.C;
}

// Bias, ReLU and the stores of a thread's sums; y[i]: its two positions.
template <typename T, int kTileN>
__device__ inline void StoreConv(const ConvSecondParameters& p, const float* bias, int column0, const int64_t (&y)[2],
                                 const float (&sum)[kTileN / 2]) {
  const int quad = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int g = 0; g < kTileN / 8; g += 4) {
    if (column0 + 8 * g >= p.C) break;
    uint32_t words[2][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float* v = &sum[4 * (g + j)];
      const float2 add = *reinterpret_cast<const float2*>(bias + column0 + 8 * (g + j) + 2 * quad);
      words[0][j] = PackRelu2<T>(v[0] + add.x, v[1] + add.y);
      words[1][j] = PackRelu2<T>(v[2] + add.x, v[3] + add.y);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      TransposeQuad(words[i]);
      T* target = static_cast<T*>(p.y) + y[i] + column0 + 8 * (g + quad);
      if (y[i] >= 0) *reinterpret_cast<uint4*>(target) = make_uint4(words[i][0], words[i][1], words[i][2], words[i][3]);
    }
  }
}

template <typename T, typename Shape>
__device__ inline void ConsumeConv(const ConvSecondParameters& p, const ConvSecondBlock<Shape>& block) {
  constexpr int kTileN = Shape::kConfig.tile_n;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, group = thread / 128;
  const int thread_row = thread / 32 * 16 + lane / 4;  // and + 8: the rows of the tile that the thread has sums of
  const int units = block.Units(p);
  const uint32_t partner = block.Partner(min(lane, Shape::kPartners - 1));
  const auto release = [&](int stage) {
    if (lane < Shape::kPartners) BarrierArriveRemote(&block.empty[stage], partner);
  };

  int stage = 0;
  uint32_t parity = 0;
  float sum[kTileN / 2];
  for (int unit = block.FirstUnit(); unit < units; unit += block.UnitStride()) {
    const int row = block.Row(unit) + thread_row;
    const int64_t y[2] = {OutputOf(p, block, row), OutputOf(p, block, row + 8)};
    int previous = -1;
    for (int step = 0; step < block.steps; ++step) {
      BarrierWait(&block.full[stage], parity);
      WgmmaFence();
      const uint64_t a = TileDescriptor(block.StageA(stage) + group * 64 * kSwizzleRowBytes);
      const uint64_t w = TileDescriptor(block.StageW(stage));
#pragma unroll
      for (int part = 0; part < kTileColumns / 16; ++part) {
        Wgmma<T, kTileN>::SS(sum, a + 2 * part, w + 2 * part, step > 0 || part > 0);
      }
      WgmmaCommit();
      if (previous >= 0) {
        WgmmaWait<1>();
        release(previous);
      }
      previous = stage;
      if (++stage == Shape::kStages) stage = 0, parity ^= 1;
    }
    WgmmaWait<0>();
    WgmmaHold(sum);
    release(previous);
    StoreConv<T, kTileN>(p, block.bias, block.Column(unit), y, sum);
  }
}

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kLayout.threads, Shape::kLayout.blocks)
    ConvSecondKernel(const __grid_constant__ ConvSecondParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  constexpr int kConsumers = Shape::kConfig.groups * 128;
  const ConvSecondBlock<Shape> block(p, shared);
  if (threadIdx.x == kConsumers) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      BarrierInit(&block.full[stage], 1);
      BarrierInit(&block.empty[stage], Shape::kPartners * Shape::kConfig.groups * 4);
    }
    BarrierInitFence();
  }
  for (int i = static_cast<int>(threadIdx.x); i < p.C; i += Shape::kLayout.threads) block.bias[i] = p.bias[i];
  WaitForPreviousKernel();
  for (int b = static_cast<int>(threadIdx.x); b <= p.B; b += Shape::kLayout.threads) {
    block.starts[b] = p.out_offsets[b] + b;
  }
  __syncthreads();
  ClusterSync();  // no block sends before all barriers are there
  if (threadIdx.x >= kConsumers) {
    if constexpr (Shape::kConfig.groups == 2) RegistersDown<56>();
    if (threadIdx.x == kConsumers) ProduceConv<Shape>(p, block);
  } else {
    if constexpr (Shape::kConfig.groups == 2) RegistersUp<216>();
    ConsumeConv<T, Shape>(p, block);
  }
  __syncwarp();
  ClusterSync();  // a block's barriers live until its partners have sent their last arrivals
#endif
}

}  // namespace ting::cuda
