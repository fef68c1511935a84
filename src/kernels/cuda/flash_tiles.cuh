// src/kernels/cuda/flash_tiles.cuh
// SPDX-License-Identifier: Apache-2.0
//
// How the operands of flash_attention.cu get to where the products read them: stages of keys, positions and values in
// shared memory, queries in registers.
#pragma once

#include "kernels/cuda/async_copies.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/ragged_attention.cuh"

namespace ting::cuda {

inline constexpr int kKeyGroups = 2;  // warps that share the keys of 16 rows
inline constexpr int kStages = 2;

template <int kWidth>  // head width, rounded up to a multiple of 64
struct Tiles {
  static constexpr int kChunks = kWidth / 8;  // 16-byte chunks of a row
  static constexpr int kGroupKeys = 32;       // 64 would need more registers than two blocks a multiprocessor have
  static constexpr int kStageKeys = kKeyGroups * kGroupKeys;  // of one of k, P, v in a stage
  static constexpr int kBytes = kStageKeys * kWidth * 2;
  static constexpr int kBiasBytes = kStageKeys * 4;

  // Chunks are permuted within 128 bytes, so that the eight rows of a matrix for ldmatrix lie in different banks.
  __device__ static uint32_t Byte(int row, int chunk) {
    return static_cast<uint32_t>((row * kChunks + (chunk ^ (row & 7))) * 16);
  }
  static uint32_t SharedBytes(bool positions) {
    return static_cast<uint32_t>(kStages * ((positions ? 3 : 2) * kBytes + kBiasBytes));
  }
};

// Where a block's stages are, as addresses in shared memory.
struct Stage {
  uint32_t keys, positions, values, bias;
};
template <int kWidth>
__device__ inline Stage StageAt(uint32_t shared, bool positions, int stage) {
  using Tile = Tiles<kWidth>;
  Stage at;
  at.keys = shared + static_cast<uint32_t>(stage * ((positions ? 3 : 2) * Tile::kBytes + Tile::kBiasBytes));
  at.values = at.keys + Tile::kBytes;
  at.bias = at.values + Tile::kBytes;
  at.positions = at.bias + Tile::kBiasBytes;
  return at;
}

// Rows [first, first + kStageKeys) of a head of k, P or v; what is beyond num_keys or the head's width becomes 0.
template <typename T, int kWidth, int kThreads>
__device__ inline void CopyRows(uint32_t target, const T* source, int64_t stride, int first, int num_keys, int width) {
  using Tile = Tiles<kWidth>;
  constexpr int kStep = kThreads / Tile::kChunks;  // rows that the block copies at once; a multiple of Byte's period
  static_assert(kStep % 8 == 0 && Tile::kStageKeys % kStep == 0);
  const int row = threadIdx.x / Tile::kChunks, chunk = threadIdx.x % Tile::kChunks;
  const int rows = chunk * 8 < width ? num_keys - first - row : 0;  // of this thread's column
  source += (first + row) * stride + chunk * 8;
  target += Tile::Byte(row, chunk);
#pragma unroll
  for (int n = 0; n < Tile::kStageKeys / kStep; ++n) {
    CopyAsync16(target + n * kStep * kWidth * 2, source, n * kStep < rows);
    source += kStep * stride;
  }
}

// The copies of a stage: k, P and bias as one group, v as the next.
template <typename T, int kWidth, int kThreads>
__device__ inline void CopyStage(const RaggedAttention& p, const QueryTile& tile, const Stage& at, int first) {
  const int column = static_cast<int>(blockIdx.y) * p.head_width;
  const int64_t offset = tile.key_row * p.key_stride + column;
  CopyRows<T, kWidth, kThreads>(at.keys, static_cast<const T*>(p.k) + offset, p.key_stride, first, tile.num_keys,
                                p.head_width);
  if (p.positions != nullptr) {
    CopyRows<T, kWidth, kThreads>(at.positions, static_cast<const T*>(p.positions) + column, p.position_stride, first,
                                  tile.num_keys, p.head_width);
  }
  if (p.key_bias != nullptr) {
    for (int i = threadIdx.x; i < Tiles<kWidth>::kStageKeys; i += kThreads) {
      const bool valid = first + i < tile.num_keys;
      CopyAsync4(at.bias + 4 * i, p.key_bias + blockIdx.y + (valid ? (first + i) * p.bias_stride : 0), valid);
    }
  }
  CommitCopies();
  CopyRows<T, kWidth, kThreads>(at.values, static_cast<const T*>(p.v) + offset, p.key_stride, first, tile.num_keys,
                                p.head_width);
  CommitCopies();
}

// A warp's 16 query rows as A fragments, straight from memory: each element is used by one warp of each key group.
template <typename T, int kWidth>
__device__ inline void LoadQueries(const RaggedAttention& p, const T* q, int rows, uint32_t (&a)[kWidth / 16][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i & 1) * 8, column = k * 16 + (i >> 1) * 8 + lane % 4 * 2;
      const bool valid = row < rows && column < p.head_width;
      a[k][i] = valid ? *reinterpret_cast<const uint32_t*>(q + row * p.q_stride + column) : 0;
    }
  }
}

}  // namespace ting::cuda
