// src/kernels/cuda/row_gemm_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The kernel of row_gemm. A block is 1 or 2 consumer warpgroups of 64 rows each, and a producer warp whose first lane
// fills a ring of stages through the copy engine.
//   K <= 512 (resident): the block's rows of A stay in shared memory, normalised there by the consumers or copied once,
//   while the block's columns of W pass by, tile after tile.
//   K > 512: both stream, one tile of columns a block. K is summed in segments; with split > 1 each block of a cluster
//   has one segment, leaves its sums in its shared memory, and then finishes every split-th group of 8 columns with the
//   sums of all, read in the order of the segments.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/row_gemm_epilogue.cuh"
#include "kernels/cuda/row_gemm_kernel.h"
#include "kernels/cuda/row_norm.cuh"

namespace ting::cuda {

inline constexpr int kTileBytes = 64 * kSwizzleRowBytes;  // 64 rows of 64 elements

__device__ inline void NamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// 4 bytes from global to shared memory in the background; zero if not `valid`.
__device__ inline void CopyFloatAsync(float* target, const float* source, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(SharedAddress(target)), "l"(source),
               "r"(valid ? 4 : 0)
               : "memory");
}
__device__ inline void CopyAsyncWait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// What a block works on, and where its shared memory lies.
template <int kTileN, int kGroups, RowGemmMode kMode>
struct RowGemmBlock {
  static constexpr bool kResident = kMode == RowGemmMode::kResident, kSplit = kMode == RowGemmMode::kSplit;
  static constexpr int kStageBytes = kTileN * kSwizzleRowBytes + (kResident ? 0 : kGroups * kTileBytes);

  __device__ RowGemmBlock(const RowGemmParameters& p, uint8_t* shared) {
    const int k_tiles = p.K / kTileColumns;
    rank = kSplit ? static_cast<int>(ClusterRank()) : 0;
    row0 = static_cast<int>(blockIdx.y) * 64 * kGroups;
    const int num_tiles = (p.N + kTileN - 1) / kTileN;
    first_tile = static_cast<int>(blockIdx.x) / p.split * p.tiles_per_block;
    tiles = min(p.tiles_per_block, num_tiles - first_tile);
    first_segment = kSplit ? rank : 0;
    last_segment = kSplit ? rank + 1 : p.segments;
    first_k = SegmentStart(p, first_segment);
    k_steps = SegmentStart(p, last_segment) - first_k;
    a = shared + ((1024 - (SharedAddress(shared) & 1023)) & 1023);
    ring = a + (kResident ? kGroups * k_tiles * kTileBytes : 0);
    bias = reinterpret_cast<float*>(ring + p.stages * kStageBytes);
    full = reinterpret_cast<uint64_t*>(bias + p.tiles_per_block * kTileN);
    empty = full + kRowGemmMaxStages;
  }
  __device__ static int SegmentStart(const RowGemmParameters& p, int segment) {
    return p.K / kTileColumns * segment / p.segments;
  }
  __device__ int Steps() const { return tiles * k_steps; }
  __device__ uint8_t* StageW(int stage) const { return ring + stage * kStageBytes; }
  // A's tile for step `k` of this block (counted from first_k) and warpgroup.
  __device__ uint8_t* TileA(int stage, int k, int group) const {
    if constexpr (kResident) return a + (group * k_steps + k) * kTileBytes;
    return StageW(stage) + kTileN * kSwizzleRowBytes + group * kTileBytes;
  }

  int rank, row0, first_tile, tiles, first_segment, last_segment, first_k, k_steps;
  uint8_t* a;
  uint8_t* ring;
  float* bias;
  uint64_t* full;
  uint64_t* empty;
};

__device__ inline int RowLimit(const RowGemmParameters& p) {
  return p.num_rows != nullptr ? min(*p.num_rows, p.M) : p.M;
}

// One lane. Weights of the first stages are on their way before the previous kernel has ended.
template <int kTileN, int kGroups, RowGemmMode kMode>
__device__ inline void Produce(const RowGemmParameters& p, const RowGemmBlock<kTileN, kGroups, kMode>& block) {
  constexpr bool kResident = kMode == RowGemmMode::kResident;
  constexpr int kWeightBytes = kTileN * kSwizzleRowBytes;
  const bool copies_a = p.x_f32 == nullptr;
  const auto step_has_a = [&](int step) { return copies_a && (!kResident || step < block.k_steps); };
  const auto load_w = [&](int step, int stage) {
    const int tile = step / block.k_steps, k = step - tile * block.k_steps;
    BarrierExpect(&block.full[stage], kWeightBytes + (step_has_a(step) ? kGroups * kTileBytes : 0));
    TmaLoad2d(block.StageW(stage), &p.w, &block.full[stage], (block.first_k + k) * kTileColumns,
              (block.first_tile + tile) * kTileN);
  };
  const auto load_a = [&](int step, int stage) {
    if (!step_has_a(step)) return;
    const int k = kResident ? step : step % block.k_steps;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      TmaLoad2d(block.TileA(stage, k, group), &p.a, &block.full[stage], (block.first_k + k) * kTileColumns,
                block.row0 + group * 64);
    }
  };

  const int steps = block.Steps(), ahead = min(steps, p.stages);
  for (int step = 0; step < ahead; ++step) load_w(step, step);
  WaitForPreviousKernel();
  for (int step = 0; step < ahead; ++step) load_a(step, step);
  if (block.row0 >= RowLimit(p)) {  // nothing to do, but a block must outlive the copies into its memory
    for (int step = 0; step < ahead; ++step) BarrierWait(&block.full[step], 0);
    return;
  }
  int stage = 0;
  uint32_t parity = 0;
  for (int step = ahead; step < steps; ++step) {
    BarrierWait(&block.empty[stage], parity);
    load_w(step, stage);
    load_a(step, stage);
    if (++stage == p.stages) stage = 0, parity ^= 1;
  }
}

// The sums of one tile of columns over the block's steps of K; `step` and `parity` of the ring go on from tile to tile.
template <typename T, int kTileN, int kGroups, RowGemmMode kMode>
class Multiplier {
 public:
  __device__ Multiplier(const RowGemmParameters& p, const RowGemmBlock<kTileN, kGroups, kMode>& block, int group)
      : p_(p), block_(block), group_(group) {}

  __device__ void Tile(float (&sum)[kTileN / 2]) {
    int k = 0;
    if constexpr (kMode != RowGemmMode::kStream) {  // a single segment
      Segment(sum, k, block_.k_steps);
    } else {
      float part[kTileN / 2];
      for (int segment = block_.first_segment; segment < block_.last_segment; ++segment) {
        Segment(part, k, Last(segment));
#pragma unroll
        for (int i = 0; i < kTileN / 2; ++i) sum[i] = segment == block_.first_segment ? part[i] : sum[i] + part[i];
      }
    }
  }

 private:
  __device__ int Last(int segment) const { return block_.SegmentStart(p_, segment + 1) - block_.first_k; }

  // Products of steps [k, last) from zero. A stage is handed back when the products after it have been issued.
  __device__ void Segment(float (&sum)[kTileN / 2], int& k, int last) {
    bool accumulate = false;
    int previous = -1;
    for (; k < last; ++k) {
      BarrierWait(&block_.full[stage_], parity_);
      WgmmaFence();
      const uint64_t a = TileDescriptor(block_.TileA(stage_, k, group_));
      const uint64_t w = TileDescriptor(block_.StageW(stage_));
#pragma unroll
      for (int part = 0; part < kTileColumns / 16; ++part) {
        Wgmma<T, kTileN>::SS(sum, a + 2 * part, w + 2 * part, accumulate);
        accumulate = true;
      }
      WgmmaCommit();
      if (previous >= 0) {
        WgmmaWait<1>();
        Release(previous);
      }
      previous = stage_;
      if (++stage_ == p_.stages) stage_ = 0, parity_ ^= 1;
    }
    WgmmaWait<0>();
    WgmmaHold(sum);
    Release(previous);
  }
  __device__ void Release(int stage) const {
    if (threadIdx.x % 32 == 0) BarrierArrive(&block_.empty[stage]);
  }

  const RowGemmParameters& p_;
  const RowGemmBlock<kTileN, kGroups, kMode>& block_;
  const int group_;
  int stage_ = 0;
  uint32_t parity_ = 0;
};

// The end of a block of a cluster. Every thread keeps its place: the sums of one thread in all blocks belong together.
template <typename T, int kTileN, int kGroups, RowGemmOutput kOutput>
__device__ inline void FinishSplit(const RowGemmParameters& p,
                                   const RowGemmBlock<kTileN, kGroups, RowGemmMode::kSplit>& block,
                                   const RowGemmEpilogue<T, kTileN, kOutput>& epilogue,
                                   const float (&sum)[kTileN / 2]) {
  constexpr int kConsumers = kGroups * 128, kMaxSplit = 8;
  const int thread = static_cast<int>(threadIdx.x);
  float4* parts = reinterpret_cast<float4*>(block.ring);
  NamedBarrier(1, kConsumers);  // the other warpgroup may be reading its last stage
#pragma unroll
  for (int g = 0; g < kTileN / 8; ++g) {
    parts[g * kConsumers + thread] = make_float4(sum[4 * g], sum[4 * g + 1], sum[4 * g + 2], sum[4 * g + 3]);
  }
  ClusterSync();
  for (int g = block.rank; g < kTileN / 8; g += p.split) {
    float4 part[kMaxSplit];
#pragma unroll
    for (int i = 0; i < kMaxSplit; ++i) {
      if (i < p.split) part[i] = LoadRemote4(MapToBlock(&parts[g * kConsumers + thread], static_cast<uint32_t>(i)));
    }
    float total[4] = {part[0].x, part[0].y, part[0].z, part[0].w};
#pragma unroll
    for (int i = 1; i < kMaxSplit; ++i) {
      if (i < p.split) total[0] += part[i].x, total[1] += part[i].y, total[2] += part[i].z, total[3] += part[i].w;
    }
    epilogue.StoreGroup(g, total);
  }
  ClusterSync();  // a block's memory lives until all have read it
}

template <typename T, int kTileN, int kGroups, RowGemmMode kMode, RowGemmOutput kOutput>
__device__ inline void Consume(const RowGemmParameters& p, const RowGemmBlock<kTileN, kGroups, kMode>& block) {
  constexpr int kConsumers = kGroups * 128;
  const int thread = static_cast<int>(threadIdx.x), group = thread / 128;
  const int columns = block.tiles * kTileN;
  for (int i = thread; i < columns; i += kConsumers) {
    const int column = block.first_tile * kTileN + i;
    if (p.bias == nullptr) block.bias[i] = 0;
    if (p.bias != nullptr) CopyFloatAsync(&block.bias[i], p.bias + min(column, p.N - 1), column < p.N);
  }
  WaitForPreviousKernel();
  const int rows = RowLimit(p);
  if (block.row0 >= rows) return;
  if constexpr (kMode == RowGemmMode::kResident) {
    if (p.x_f32 != nullptr) {
      const RowNorm norm{p.x_f32, p.x_stride, p.gamma, p.beta, p.eps};
      uint8_t* tiles = block.TileA(0, 0, group);
      if (p.K == 256) norm.Rows<T, 256>(block.row0 + group * 64, rows, tiles);
      if (p.K == 512) norm.Rows<T, 512>(block.row0 + group * 64, rows, tiles);
      FenceAsyncProxy();
    }
  }
  CopyAsyncWait();
  NamedBarrier(1, kConsumers);

  const int row = block.row0 + thread / 32 * 16 + thread % 32 / 4;  // of the thread's sums, and row + 8
  Multiplier<T, kTileN, kGroups, kMode> multiplier(p, block, group);
  float sum[kTileN / 2];
  for (int tile = 0; tile < block.tiles; ++tile) {
    const RowGemmEpilogue<T, kTileN, kOutput> epilogue(p, row, rows, (block.first_tile + tile) * kTileN,
                                                       block.bias + tile * kTileN);
    if constexpr (kMode == RowGemmMode::kSplit) {
      multiplier.Tile(sum);
      FinishSplit<T, kTileN, kGroups, kOutput>(p, block, epilogue, sum);
    } else if constexpr (kMode == RowGemmMode::kResident && kOutput == RowGemmOutput::kFloat) {
      float2 residual[kTileN / 8][2];
      epilogue.LoadResidual(residual);  // on its way during the products
      multiplier.Tile(sum);
      epilogue.StoreFloats(sum, residual);
    } else {
      multiplier.Tile(sum);
      epilogue.Store(sum);
    }
  }
}

// Two warpgroups of consumers get registers from the producer's warpgroup.
template <int kTileN, int kGroups, RowGemmMode kMode>
struct RowGemmLaunch {
  static constexpr int kThreads = kGroups == 2 ? 384 : 160;
  static constexpr int kBlocks = kGroups == 2 || (kTileN == 128 && kMode == RowGemmMode::kStream) ? 1 : 2;
};

template <typename T, int kTileN, int kGroups, RowGemmMode kMode, RowGemmOutput kOutput>
__global__ void __launch_bounds__(RowGemmLaunch<kTileN, kGroups, kMode>::kThreads,
                                  RowGemmLaunch<kTileN, kGroups, kMode>::kBlocks)
    RowGemmKernel(const __grid_constant__ RowGemmParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  const RowGemmBlock<kTileN, kGroups, kMode> block(p, shared);
  if (threadIdx.x == kGroups * 128) {
    for (int stage = 0; stage < p.stages; ++stage) {
      BarrierInit(&block.full[stage], 1);
      BarrierInit(&block.empty[stage], kGroups * 4);
    }
    BarrierInitFence();
  }
  __syncthreads();
  LetNextKernelStart();
  if (threadIdx.x >= kGroups * 128) {
    if constexpr (kGroups == 2) RegistersDown<40>();
    if (threadIdx.x == kGroups * 128) Produce(p, block);
    __syncwarp();
    if constexpr (kMode == RowGemmMode::kSplit) ClusterSync(), ClusterSync();  // as the consumers do in FinishSplit
  } else {
    if constexpr (kGroups == 2) RegistersUp<232>();
    Consume<T, kTileN, kGroups, kMode, kOutput>(p, block);
  }
#endif
}

}  // namespace ting::cuda
