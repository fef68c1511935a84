// src/kernels/cuda/row_gemm_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The kernel of row_gemm. A block is 1 or 2 consumer warpgroups, and a producer warp whose first lane fills a ring of
// stages through the copy engine.
//   K <= 512 (resident): the block's rows of A, 64 or fewer, stay in shared memory, normalised there by the consumers
//   or copied once, while the block's columns of W pass by, tile after tile. Two warpgroups take the tiles in turn, each
//   from a ring of its own, so that one stores its results while the other multiplies.
//   K > 512: both stream, one tile of columns a block; each warpgroup has 64 rows. K is summed in segments; with
//   split > 1 each block of a cluster has one segment, leaves its sums in its shared memory, and then finishes every
//   split-th group of 8 columns with the sums of all, read in the order of the segments.
// With share = 2 the blocks of a cluster own neighbouring rows and the same columns: each fetches half of every tile of
// W for both, so that half the bytes come from L2, which is what a large product waits for.
#pragma once

#include "kernels/cuda/async_copies.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/row_gemm_epilogue.cuh"
#include "kernels/cuda/row_gemm_kernel.h"
#include "kernels/cuda/row_norm.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda {

inline constexpr int kTileBytes = 64 * kSwizzleRowBytes;  // 64 rows of 64 elements

// What a block works on, and where its shared memory lies.
template <int kTileN, int kGroups, RowGemmMode kMode>
struct RowGemmBlock {
  static constexpr bool kResident = kMode == RowGemmMode::kResident, kSplit = kMode == RowGemmMode::kSplit;
  static constexpr int kConsumers = kGroups * 128;
  static constexpr int kTurns = kResident ? kGroups : 1, kRowGroups = kGroups / kTurns;
  static constexpr int kWeightBytes = kTileN * kSwizzleRowBytes;
  static constexpr int kStageBytes = kWeightBytes + (kResident ? 0 : kGroups * kTileBytes);

  __device__ RowGemmBlock(const RowGemmParameters& p, uint8_t* shared) : stages(p.stages) {
    const int x = static_cast<int>(blockIdx.x);
    rank = kSplit ? x & ((1 << p.segments_log2) - 1) : x & (p.share - 1);
    row0 = (kSplit ? x >> p.segments_log2 : x) * p.rows;
    cluster_row0 = kSplit ? row0 : row0 - rank * p.rows;
    first_tile = static_cast<int>(blockIdx.y) * p.tiles_per_block;
    tiles = min(p.tiles_per_block, (p.N + kTileN - 1) / kTileN - first_tile);
    first_segment = kSplit ? rank : 0;
    last_segment = kSplit ? rank + 1 : 1 << p.segments_log2;
    first_k = SegmentStart(p, first_segment);
    k_steps = SegmentStart(p, last_segment) - first_k;
    a = shared + BytesToTile(shared);
    ring = a + (kResident ? k_steps * kTileBytes : 0);
    staging = ring + kTurns * stages * kStageBytes;
    gamma = reinterpret_cast<float*>(staging + (kSplit ? 0 : kGroups * 4 * kRowGemmStaging));
    bias = gamma + (kResident ? 2 * p.K : 0);
    full = reinterpret_cast<uint64_t*>(bias + p.tiles_per_block * kTileN);
    empty = full + 2 * kRowGemmMaxStages;
    full_a = empty + 2 * kRowGemmMaxStages;
    full_norm = full_a + kRowGemmResidentK / kTileColumns;
  }
  __device__ static int SegmentStart(const RowGemmParameters& p, int segment) {
    return p.K / kTileColumns * segment >> p.segments_log2;
  }
  // Steps of the ring of the warpgroup whose turn is `turn`.
  __device__ int Steps(int turn) const { return (tiles - turn + kTurns - 1) / kTurns * k_steps; }
  // Stages of the second ring follow those of the first.
  __device__ uint8_t* StageW(int stage) const { return ring + stage * kStageBytes; }
  // A's tile for step `k` of this block (counted from first_k) and the warpgroup with rows of its own.
  __device__ uint8_t* TileA(int stage, int k, int group) const {
    if constexpr (kResident) return a + k * kTileBytes;
    return StageW(stage) + kWeightBytes + group * kTileBytes;
  }

  const int stages;
  int rank, row0, cluster_row0, first_tile, tiles, first_segment, last_segment, first_k, k_steps;
  uint8_t* a;
  uint8_t* ring;
  uint8_t* staging;
  float* gamma;  // then beta
  float* bias;
  uint64_t* full;
  uint64_t* empty;
  uint64_t* full_a;  // resident, not normalised here: of each tile of A
  uint64_t* full_norm;
};

__device__ inline int RowLimit(const RowGemmParameters& p) {
  return p.num_rows != nullptr ? min(*p.num_rows, p.M) : p.M;
}

// The warp that fills the rings, of which one lane works. Weights of the first stages are on their way before the
// previous kernel has ended.
template <int kTileN, int kGroups, RowGemmMode kMode>
class Producer {
 public:
  using Block = RowGemmBlock<kTileN, kGroups, kMode>;
  __device__ Producer(const RowGemmParameters& p, const Block& block) : p_(p), block_(block) {}

  __device__ void Run() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    InitBarriers(lane);
    if (p_.share > 1) ClusterSync();  // all have barriers
    int ahead = 0;
    if (lane == 0) {
      if (Block::kResident && p_.gamma != nullptr) {
        LoadNorm(block_.gamma, p_.gamma, p_.beta, p_.K, block_.full_norm);
      }
      ahead = min(block_.Steps(0), block_.stages);
      for (int step = 0; step < ahead; ++step) LoadW(step);
    }
    __syncwarp();
    __syncthreads();
    if (lane == 0) Rest(ahead);
    __syncwarp();
  }

 private:
  __device__ void InitBarriers(int lane) const {
    if (lane == 0) {
      TmaPrefetchMap(&p_.w);
      if (p_.x_f32 == nullptr) TmaPrefetchMap(&p_.a);
    }
    if (lane < Block::kTurns * block_.stages) {
      BarrierInit(&block_.full[lane], 1);
      BarrierInit(&block_.empty[lane], Block::kRowGroups * 4 * p_.share);
    }
    if (Block::kResident && lane <= kRowGemmResidentK / kTileColumns) BarrierInit(&block_.full_a[lane], 1);  // and norm
    BarrierInitFence();
    __syncwarp();
  }

  __device__ void Rest(int ahead) {
    WaitForPreviousKernel();
    if (p_.x_f32 == nullptr) {
      for (int step = 0; step < (Block::kResident ? block_.k_steps : ahead); ++step) LoadA(step, step);
    }
    if (block_.cluster_row0 >= RowLimit(p_)) {  // nothing to do, but a block must outlive the copies into its memory
      Drain(ahead);
      return;
    }
    const int steps = block_.Steps(0);
    int stage = ahead == block_.stages ? 0 : ahead;
    uint32_t parity = 0;
    for (int step = ahead; step < steps; ++step) {
      LoadFreed(step, stage, parity);
      if (++stage == block_.stages) stage = 0, parity ^= 1;
    }
  }
  __device__ void LoadFreed(int step, int stage, uint32_t parity) {
#pragma unroll
    for (int turn = 0; turn < Block::kTurns; ++turn) {
      if (tile_ + turn < block_.tiles) BarrierWait(&block_.empty[stage + turn * block_.stages], parity);
    }
    LoadW(stage);
    if (!Block::kResident) LoadA(step, stage);
  }
  // W of the next step of every ring; this block's part, if it shares.
  __device__ void LoadW(int stage) {
    const int part = kTileN / p_.share;
#pragma unroll
    for (int turn = 0; turn < Block::kTurns; ++turn) {
      const int tile = tile_ + turn, place = stage + turn * block_.stages;
      if (tile >= block_.tiles) continue;
      uint64_t* barrier = &block_.full[place];
      uint8_t* target = block_.StageW(place);
      const int column = (block_.first_k + k_) * kTileColumns, row = (block_.first_tile + tile) * kTileN;
      BarrierExpect(barrier, Block::kStageBytes);
      if (p_.share == 1) {
        TmaLoad2d(target, &p_.w, barrier, column, row);
      } else {
        TmaLoad2dMulticast(target + block_.rank * part * kSwizzleRowBytes, &p_.w, barrier, column,
                           row + block_.rank * part, static_cast<uint16_t>((1 << p_.share) - 1));
      }
    }
    if (++k_ == block_.k_steps) k_ = 0, tile_ += Block::kTurns;
  }
  // Resident: `step` is that of K, and stages do not matter.
  __device__ void LoadA(int step, int stage) const {
    uint64_t* barrier = Block::kResident ? &block_.full_a[step] : &block_.full[stage];
    if (Block::kResident) BarrierExpect(barrier, static_cast<uint32_t>(p_.rows * kSwizzleRowBytes));
#pragma unroll
    for (int group = 0; group < Block::kRowGroups; ++group) {
      TmaLoad2d(block_.TileA(stage, step, group), &p_.a, barrier, (block_.first_k + step) * kTileColumns,
                block_.row0 + group * 64);
    }
  }
  __device__ void Drain(int ahead) const {
    for (int turn = 0; turn < Block::kTurns; ++turn) {
      for (int step = 0; step < min(ahead, block_.Steps(turn)); ++step) {
        BarrierWait(&block_.full[step + turn * block_.stages], 0);
      }
    }
    if (Block::kResident && p_.x_f32 == nullptr) {
      for (int k = 0; k < block_.k_steps; ++k) BarrierWait(&block_.full_a[k], 0);
    }
    if (Block::kResident && p_.gamma != nullptr) BarrierWait(block_.full_norm, 0);
  }

  const RowGemmParameters& p_;
  const Block& block_;
  int tile_ = 0, k_ = 0;  // of the next W
};

// The sums of one tile of columns over the block's steps of K; the place in the ring goes on from tile to tile.
template <typename T, int kTileN, int kGroups, RowGemmMode kMode>
class Multiplier {
 public:
  using Block = RowGemmBlock<kTileN, kGroups, kMode>;
  __device__ Multiplier(const RowGemmParameters& p, const Block& block, int group)
      : p_(p),
        block_(block),
        group_(group),
        first_stage_(Block::kTurns == 2 ? group * block.stages : 0),
        waits_for_a_(Block::kResident && p.x_f32 == nullptr) {}

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
    waits_for_a_ = false;
  }

 private:
  __device__ int Last(int segment) const { return block_.SegmentStart(p_, segment + 1) - block_.first_k; }

  // Products of steps [k, last) from zero. A stage is handed back when the products after it have been issued.
  __device__ void Segment(float (&sum)[kTileN / 2], int& k, int last) {
    bool accumulate = false;
    int previous = -1;
    for (; k < last; ++k) {
      const int stage = first_stage_ + stage_;
      if (waits_for_a_) BarrierWait(&block_.full_a[k], 0);
      BarrierWait(&block_.full[stage], parity_);
      WgmmaFence();
      const uint64_t a = TileDescriptor(block_.TileA(stage, k, group_));
      const uint64_t w = TileDescriptor(block_.StageW(stage));
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
      previous = stage;
      if (++stage_ == block_.stages) stage_ = 0, parity_ ^= 1;
    }
    WgmmaWait<0>();
    WgmmaHold(sum);
    Release(previous);
  }
  __device__ void Release(int stage) const {
    const uint32_t lane = threadIdx.x % 32;
    if (p_.share == 1) {
      if (lane == 0) BarrierArrive(&block_.empty[stage]);
    } else if (lane < static_cast<uint32_t>(p_.share)) {
      BarrierArriveRemote(&block_.empty[stage], lane);
    }
  }

  const RowGemmParameters& p_;
  const Block& block_;
  const int group_, first_stage_;
  bool waits_for_a_;
  int stage_ = 0;
  uint32_t parity_ = 0;
};

template <typename T, int kTileN, int kGroups, RowGemmMode kMode, RowGemmOutput kOutput>
class Consumer {
 public:
  using Block = RowGemmBlock<kTileN, kGroups, kMode>;
  using Epilogue = RowGemmEpilogue<T, kTileN, kOutput>;
  __device__ Consumer(const RowGemmParameters& p, const Block& block)
      : p_(p),
        block_(block),
        thread_(static_cast<int>(threadIdx.x)),
        warp_(__shfl_sync(0xFFFFFFFF, thread_ / 32, 0)) {}

  __device__ void Run() {
    if (p_.share > 1) ClusterArrive();
    FetchBias();
    WaitForPreviousKernel();
    rows_ = RowLimit(p_);
    if (!PrepareRows()) return;
    const int limit = min(rows_, block_.row0 + p_.rows);
    Multiplier<T, kTileN, kGroups, kMode> multiplier(p_, block_, warp_ / 4);
    float sum[kTileN / 2];
    for (int tile = FirstTile(); tile < block_.tiles; tile += Block::kTurns) {
      // The warp's 16 rows.
      const int row = block_.row0 + (Block::kTurns == 2 ? warp_ % 4 : warp_) * 16;
      const Epilogue epilogue(p_, row, limit, (block_.first_tile + tile) * kTileN, block_.bias + tile * kTileN,
                              block_.staging + warp_ * kRowGemmStaging);
      typename Epilogue::Residual residual;
      if constexpr (kResidual && Block::kResident) epilogue.LoadResidual(residual);  // on its way during the products
      multiplier.Tile(sum);
      if (tile == FirstTile()) BiasIsThere();
      if constexpr (kMode == RowGemmMode::kSplit) {
        FinishSplit(epilogue, sum);
      } else if constexpr (kResidual) {
        if (!Block::kResident) epilogue.LoadResidual(residual);
        epilogue.StoreFloats(sum, residual);
      } else {
        epilogue.StoreHalf(sum);
      }
    }
  }

 private:
  static constexpr bool kResidual = kOutput == RowGemmOutput::kFloat && !Block::kSplit;
  static constexpr int kSharers = Block::kConsumers / Block::kTurns;  // threads whose tiles of columns are the same

  __device__ int FirstTile() const { return Block::kTurns == 2 ? warp_ / 4 : 0; }
  // On its way into shared memory, by the threads that have the same tiles.
  __device__ void FetchBias() const {
    const int thread = thread_ % kSharers;
#pragma unroll 1
    for (int tile = FirstTile(); tile < block_.tiles; tile += Block::kTurns) {
      const int i = tile * kTileN + thread, column = block_.first_tile * kTileN + i;
      if (thread >= kTileN) continue;
      if (p_.bias != nullptr && column < p_.N) {
        CopyAsync4(&block_.bias[i], p_.bias + column);
      } else {
        block_.bias[i] = 0;
      }
    }
  }
  __device__ void BiasIsThere() const {
    WaitForAllCopies();
    NamedBarrier(2 + thread_ / kSharers, kSharers);
  }
  // Barriers are there; false if the block has no rows.
  __device__ bool Ready() const {
    if (p_.share > 1) ClusterWait();
    __syncthreads();
    return block_.cluster_row0 < rows_;
  }
  __device__ bool PrepareRows() const {
    if constexpr (Block::kResident) {
      if (p_.x_f32 != nullptr) return NormaliseRows();
    }
    return Ready();
  }
  // Reads do not wait for the number of rows: x has M.
  __device__ bool NormaliseRows() const {
    if (p_.gamma == nullptr) {  // v * 1 + 0
#pragma unroll 1
      for (int k = thread_; k < p_.K; k += Block::kConsumers) block_.gamma[k] = 1, block_.gamma[p_.K + k] = 0;
    }
    bool any = true;
    const auto ready = [&] {
      any = Ready();
      if (any && p_.gamma != nullptr) BarrierWait(block_.full_norm, 0);
      return any;
    };
    const RowNorm norm{p_.x_f32, p_.x_stride, block_.gamma, block_.gamma + p_.K, p_.gamma != nullptr, p_.eps};
    constexpr int kWarps = 4 * kGroups;
    if (p_.K == 512) {
      norm.Rows<T, 512, 64, kWarps>(warp_, block_.row0, p_.M, block_.a, ready);
    } else if (p_.rows == 64) {
      norm.Rows<T, 256, 64, kWarps>(warp_, block_.row0, p_.M, block_.a, ready);
    } else if (p_.rows == 32) {
      norm.Rows<T, 256, 32, kWarps>(warp_, block_.row0, p_.M, block_.a, ready);
    } else {
      norm.Rows<T, 256, 16, kWarps>(warp_, block_.row0, p_.M, block_.a, ready);
    }
    FenceAsyncProxy();
    NamedBarrier(1, Block::kConsumers);
    return any;
  }

  // The end of a block of a cluster. Every thread keeps its place: the sums of one thread in all blocks belong
  // together.
  __device__ void FinishSplit(const Epilogue& epilogue, const float (&sum)[kTileN / 2]) const {
    constexpr int kMaxSplit = 8;
    const int split = 1 << p_.segments_log2;
    float4* parts = reinterpret_cast<float4*>(block_.ring);
    NamedBarrier(1, Block::kConsumers);  // the other warpgroup may be reading its last stage
#pragma unroll
    for (int g = 0; g < kTileN / 8; ++g) {
      parts[g * Block::kConsumers + thread_] = make_float4(sum[4 * g], sum[4 * g + 1], sum[4 * g + 2], sum[4 * g + 3]);
    }
    ClusterSync();
    for (int g = block_.rank; g < kTileN / 8; g += split) {
      float4 part[kMaxSplit];
#pragma unroll
      for (int i = 0; i < kMaxSplit; ++i) {
        const float4* source = &parts[g * Block::kConsumers + thread_];
        if (i < split) part[i] = LoadRemote4(MapToBlock(source, static_cast<uint32_t>(i)));
      }
      float total[4] = {part[0].x, part[0].y, part[0].z, part[0].w};
#pragma unroll
      for (int i = 1; i < kMaxSplit; ++i) {
        if (i < split) total[0] += part[i].x, total[1] += part[i].y, total[2] += part[i].z, total[3] += part[i].w;
      }
      epilogue.StoreGroup(g, total);
    }
    ClusterSync();  // a block's memory lives until all have read it
  }

  const RowGemmParameters& p_;
  const Block& block_;
  const int thread_, warp_;
  int rows_ = 0;
};

// Two warpgroups of consumers that stream get registers from the producer's warpgroup.
template <typename T, int kTileN, int kGroups, RowGemmMode kMode, RowGemmOutput kOutput>
__global__ void __launch_bounds__(RowGemmThreads(kGroups, kMode == RowGemmMode::kResident),
                                  RowGemmBlocks(kGroups, kTileN, kMode))
    RowGemmKernel(const __grid_constant__ RowGemmParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if (p.starts_next) LetNextKernelStart();
  extern __shared__ uint8_t shared[];
  constexpr bool kMoves = kGroups == 2 && kMode != RowGemmMode::kResident;
  const RowGemmBlock<kTileN, kGroups, kMode> block(p, shared);
  if (threadIdx.x >= kGroups * 128) {
    if constexpr (kMoves) RegistersDown<40>();
    if (threadIdx.x < kGroups * 128 + 32) {
      Producer<kTileN, kGroups, kMode>(p, block).Run();
    } else {
      if (p.share > 1) ClusterSync();
      __syncthreads();
    }
    if constexpr (kMode == RowGemmMode::kSplit) ClusterSync(), ClusterSync();  // as the consumers do in FinishSplit
  } else {
    if constexpr (kMoves) RegistersUp<232>();
    Consumer<T, kTileN, kGroups, kMode, kOutput>(p, block).Run();
  }
  if (p.share > 1) ClusterSync();  // no block has ended while another one writes to it
#endif
}

}  // namespace ting::cuda
