// src/kernels/cuda/flash_attention.cu
// SPDX-License-Identifier: Apache-2.0
//
// Self and cross attention with 16-bit operands: one pass over the keys with running maxima and sums, products by
// mma.sync, on every GPU and for every head width. Heads of 64 columns on Hopper have warpgroup_attention.cu.
//
// A block has rows of one sequence and one head. A warp has 16 rows and every second block of kGroupKeys keys; the two
// warps of the same 16 rows merge their sums at the end. That halves the longest path where keys are few, and is the
// order for all sizes: keys are visited in blocks that count from the sequence's start, whatever the number of rows a
// block has. A key block that a row does not see multiplies its sums by 1 and adds 0. So a row's bits do not depend on
// tiles, bounds or neighbours.
#include "kernels/cuda/flash_tiles.cuh"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

// s += q keysᵀ; `keys` is the address of the warp's first key row.
template <typename T, int kWidth, int kTiles>
__device__ inline void AddScores(float (&s)[kTiles][4], const uint32_t (&q)[kWidth / 16][4], uint32_t keys) {
  const int lane = threadIdx.x % 32;
  const int row = lane % 8 + lane / 16 * 8, half = lane / 8 % 2;
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      LoadMatrices(b, keys + Tiles<kWidth>::Byte(n * 8 + row, 2 * k + half));
      Mma<T>(s[n], q[k], b[0], b[1]);
      Mma<T>(s[n + 1], q[k], b[2], b[3]);
    }
  }
}

// What a lane knows of its rows g and g + 8; o is [16, kWidth] as C fragments. `sum` is of the lane's own columns.
template <int kWidth>
struct RowSums {
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
  float o[kWidth / 8][4] = {};
};

// Scores to base 2, with bias and mask; keys are counted from the sequence's start.
template <int kTiles>
__device__ inline void MaskScores(float (&s)[kTiles][4], float scale, const float* bias, int first_key,
                                  const VisibleRange (&visible)[2]) {
  const int column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const float2 b = bias != nullptr ? *reinterpret_cast<const float2*>(bias + n * 8 + column) : float2{0, 0};
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = fmaf(s[n][i], scale, (i % 2 == 0 ? b.x : b.y) * kLog2E);
  }
  if (first_key >= max(visible[0].first, visible[1].first) &&
      first_key + kTiles * 8 <= min(visible[0].last, visible[1].last)) {
    return;
  }
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = first_key + n * 8 + column + i % 2;
      if (key < visible[i / 2].first || key >= visible[i / 2].last) s[n][i] = -INFINITY;
    }
  }
}

// s becomes exp2(s - largest); sums and o so far are brought to the new maximum.
template <int kWidth, int kTiles>
__device__ inline void UpdateSums(float (&s)[kTiles][4], RowSums<kWidth>& rows) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = rows.largest[r];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) largest = fmaxf(largest, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFF, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFF, largest, 2));
    const float base = largest == -INFINITY ? 0.0F : largest;  // no visible key yet: exp2(-inf - 0) = 0
    const float decay = Exp2(rows.largest[r] - base);
    rows.largest[r] = largest;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      s[n][2 * r] = Exp2(s[n][2 * r] - base);
      s[n][2 * r + 1] = Exp2(s[n][2 * r + 1] - base);
      sum += s[n][2 * r] + s[n][2 * r + 1];
    }
    rows.sum[r] = fmaf(rows.sum[r], decay, sum);
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      rows.o[n][2 * r] *= decay;
      rows.o[n][2 * r + 1] *= decay;
    }
  }
}

// o += s values
template <typename T, int kWidth, int kTiles>
__device__ inline void AddValues(const float (&s)[kTiles][4], RowSums<kWidth>& rows, uint32_t values) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < kTiles / 2; ++k) {
    const uint32_t a[4] = {PackSmall<T>(s[2 * k][0], s[2 * k][1]), PackSmall<T>(s[2 * k][2], s[2 * k][3]),
                           PackSmall<T>(s[2 * k + 1][0], s[2 * k + 1][1]),
                           PackSmall<T>(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
    for (int n = 0; n < kWidth / 8; n += 2) {
      uint32_t b[4];
      LoadMatricesTransposed(b, values + Tiles<kWidth>::Byte(k * 16 + lane % 16, n + lane / 16));
      Mma<T>(rows.o[n], a, b[0], b[1]);
      Mma<T>(rows.o[n + 1], a, b[2], b[3]);
    }
  }
}

// Adds the sums that the second key group left in `shared` to those of the first, in the same lanes.
template <int kWidth>
__device__ inline void MergeGroups(RowSums<kWidth>& rows, float* shared, int group) {
  constexpr int kValues = kWidth / 2 + 4;
  const int warps = blockDim.x / 32 / kKeyGroups;
  float* mine = shared + threadIdx.x / 32 % warps * (kValues * 32) + threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.sum[r] += __shfl_xor_sync(0xFFFFFFFF, rows.sum[r], 1);
    rows.sum[r] += __shfl_xor_sync(0xFFFFFFFF, rows.sum[r], 2);
  }
  __syncthreads();  // all are done with the stages
  if (group == 1) {
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) mine[i * 32] = rows.o[i / 4][i % 4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      mine[(kWidth / 2 + r) * 32] = rows.largest[r];
      mine[(kWidth / 2 + 2 + r) * 32] = rows.sum[r];
    }
  }
  __syncthreads();
  if (group == 1) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float other = mine[(kWidth / 2 + r) * 32], largest = fmaxf(rows.largest[r], other);
    const float base = largest == -INFINITY ? 0.0F : largest;
    const float scale = Exp2(rows.largest[r] - base), other_scale = Exp2(other - base);
    const float sum = fmaf(rows.sum[r], scale, mine[(kWidth / 2 + 2 + r) * 32] * other_scale);
    const float inverse = sum > 0 ? 1.0F / sum : 0.0F;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        rows.o[n][i] = fmaf(rows.o[n][i], scale, mine[(n * 4 + i) * 32] * other_scale) * inverse;
      }
    }
  }
}

template <typename T, int kWidth>
__device__ inline void StoreRows(const RaggedAttention& p, const RowSums<kWidth>& sums, T* context, int rows) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = lane / 4 + r * 8;
    if (row >= rows) continue;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      if (n * 8 >= p.head_width) continue;
      *reinterpret_cast<uint32_t*>(context + row * p.context_stride + n * 8 + lane % 4 * 2) =
          Pack2<T>(sums.o[n][2 * r], sums.o[n][2 * r + 1]);
    }
  }
}

// Block (tile, head); warp w has rows [16 * (w % kRowWarps), + 16) of the tile and key group w / kRowWarps.
template <typename T, int kWidth, int kRowWarps>
__global__ void __launch_bounds__(kRowWarps* kKeyGroups * 32, kWidth <= 64 ? 2 : 1)
    FlashAttentionKernel(const __grid_constant__ RaggedAttention p) {
  using Tile = Tiles<kWidth>;
  constexpr int kRows = kRowWarps * 16, kThreads = kRowWarps * kKeyGroups * 32, kScoreTiles = Tile::kGroupKeys / 8;
  extern __shared__ __align__(1024) unsigned char shared[];
  WaitForPreviousKernel();
  const QueryTile tile = FindTile<kRows>(p);
  if (tile.count == 0) return;

  const bool positions = p.positions != nullptr;
  const uint32_t base = SharedAddress(shared);
  const int end_key = VisibleOf(p, tile.start + tile.count - 1, tile.num_keys).last;
  int first_key = VisibleOf(p, tile.start, tile.num_keys).first / Tile::kStageKeys * Tile::kStageKeys;
  if (first_key < end_key) {
    CopyStage<T, kWidth, kThreads>(p, tile, StageAt<kWidth>(base, positions, 0), first_key);
  }

  const int warp = threadIdx.x / 32, group = warp / kRowWarps, warp_row = warp % kRowWarps * 16;
  const int rows = min(tile.count - warp_row, 16);  // of the warp; may be none
  const int64_t column = static_cast<int64_t>(blockIdx.y) * p.head_width;
  uint32_t q[kWidth / 16][4];
  LoadQueries<T, kWidth>(p, static_cast<const T*>(p.q) + (tile.row + warp_row) * p.q_stride + column, rows, q);

  VisibleRange visible[2];  // of the lane's rows; a row that does not exist sees what the tile's last one sees
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = min(warp_row + static_cast<int>(threadIdx.x) % 32 / 4 + r * 8, tile.count - 1);
    visible[r] = VisibleOf(p, tile.start + row, tile.num_keys);
  }
  const int warp_first = VisibleOf(p, tile.start + warp_row, tile.num_keys).first;
  const int warp_end = VisibleOf(p, tile.start + warp_row + rows - 1, tile.num_keys).last;

  RowSums<kWidth> sums;
  for (int stage = 0; first_key < end_key; first_key += Tile::kStageKeys, stage ^= 1) {
    const Stage at = StageAt<kWidth>(base, positions, stage);
    WaitForCopies<1>();  // this stage's k and P; its v may be under way
    __syncthreads();     // everybody's; and all are done with the stage before
    if (first_key + Tile::kStageKeys < end_key) {
      CopyStage<T, kWidth, kThreads>(p, tile, StageAt<kWidth>(base, positions, stage ^ 1),
                                     first_key + Tile::kStageKeys);
    } else {  // the same number of groups for the waits
      CommitCopies();
      CommitCopies();
    }
    const int key = first_key + group * Tile::kGroupKeys;
    const uint32_t group_bytes = static_cast<uint32_t>(group * Tile::kGroupKeys * kWidth * 2);
    const bool sees = rows > 0 && key < warp_end && key + Tile::kGroupKeys > warp_first;
    float s[kScoreTiles][4] = {};
    if (sees) {
      AddScores<T, kWidth>(s, q, at.keys + group_bytes);
      if (positions) AddScores<T, kWidth>(s, q, at.positions + group_bytes);
      const float* bias = p.key_bias == nullptr
                              ? nullptr
                              : reinterpret_cast<const float*>(shared + (at.bias - base)) + group * Tile::kGroupKeys;
      MaskScores(s, p.scale_log2, bias, key, visible);
      UpdateSums<kWidth>(s, sums);
    }
    WaitForCopies<2>();
    __syncthreads();
    if (sees) AddValues<T, kWidth>(s, sums, at.values + group_bytes);
  }
  MergeGroups<kWidth>(sums, reinterpret_cast<float*>(shared), group);
  if (group == 1) return;
  StoreRows<T, kWidth>(p, sums, static_cast<T*>(p.context) + (tile.row + warp_row) * p.context_stride + column, rows);
}

template <typename T, int kWidth, int kRowWarps>
Status LaunchTiles(const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(problem.NumTiles(kRowWarps * 16), problem.heads);
  shape.block = dim3(kRowWarps * kKeyGroups * 32);
  shape.shared_bytes = Tiles<kWidth>::SharedBytes(problem.positions != nullptr);
  shape.dependent = dependent;
  if (Status status = AllowShared(FlashAttentionKernel<T, kWidth, kRowWarps>, shape.shared_bytes); !status.ok())
    return status;
  return Launch(FlashAttentionKernel<T, kWidth, kRowWarps>, shape, stream, problem);
}

template <typename T, int kWidth>
Status LaunchWidth(const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  // Tiles of 64 rows read the keys least often; while they leave multiprocessors idle, tiles of 32 finish earlier.
  constexpr int kFewBlocks = 132;
  if (problem.NumTiles(64) * problem.heads <= kFewBlocks) return LaunchTiles<T, kWidth, 2>(problem, dependent, stream);
  return LaunchTiles<T, kWidth, 4>(problem, dependent, stream);
}

template <typename T>
Status LaunchType(const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  if (problem.head_width <= 64) return LaunchWidth<T, 64>(problem, dependent, stream);
  return LaunchWidth<T, 128>(problem, dependent, stream);
}

}  // namespace

Status LaunchFlashAttention(DType dtype, const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  if (dtype == DType::kF16) return LaunchType<__half>(problem, dependent, stream);
  return LaunchType<__nv_bfloat16>(problem, dependent, stream);
}

}  // namespace ting::cuda
