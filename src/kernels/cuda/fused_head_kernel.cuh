// src/kernels/cuda/fused_head_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The product of fused_head.h. A block has 64 rows a warpgroup of consumers, normalised once and then held in registers
// as the A operand of every product; W passes by in tiles of 64 columns, of which a warp's first lane keeps a ring
// filled. A warpgroup multiplies the next tile while it works on the results of the last one: sums of exponentials, and
// for the k best, what may be among them.
//
// Why A is in registers: with both operands in shared memory a tile of 64 columns would read 64 x 256 of A and of W for
// each warpgroup, and with the tiles that arrive shared memory, not the tensor cores, would be the bound.
//
// Sums: of every segment of 128 columns, from zero, whatever part of the vocabulary a block has; the finishing kernel
// adds the segments. So the bits do not depend on how the vocabulary is split.
//
// The k best: a thread has 16 columns of a row in each tile, a group. Every thread remembers the best maxima of its
// groups. The least of those that the four threads of a row remember is a bound: at least k columns reach it. Groups
// that do not are forgotten, the others go to memory (kept) with their maxima, to be ranked by the finishing kernel. So
// nothing is ever full: were all logits equal or ascending, all groups would be kept.
//
// Bounds at K = 256, in clocks of a multiprocessor, for 128 rows and a tile: 1024 of tensor cores; of shared memory 512
// (W, read by two warpgroups) and 256 (W arriving); 512 of special functions. L2 gives about 24 bytes a clock to each,
// and a tile of 32 KB would take 1365: hence sharing.
#pragma once

#include "kernels/cuda/fused_head_parameters.h"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/row_norm.cuh"

namespace ting::cuda::head {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr float kLog2E = 1.44269504F;
constexpr float kLowest = -1e30F;  // stands for -inf where differences are taken

__device__ inline void NamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ inline int RowLimit(const Parameters& p) {
  return p.count == nullptr ? p.rows : min(*p.count - p.first_row, p.rows);
}

// What a block works on, and where its shared memory lies.
template <int kK, int kGroups>
struct Block {
  static constexpr int kRows = kGroups * kBlockRows;
  static constexpr int kConsumers = kGroups * 128;
  static constexpr int kTileStages = kK / kStageK;

  __device__ Block(const Parameters& p, uint8_t* shared) : stages(p.stages) {
    rank = static_cast<int>(blockIdx.x) & (p.sharing - 1);
    row0 = static_cast<int>(blockIdx.x) * kRows;
    cluster_row0 = row0 - rank * kRows;
    const int part = static_cast<int>(blockIdx.y);
    first_segment = p.segments * part / p.splits;
    segments = p.segments * (part + 1) / p.splits - first_segment;
    a = shared + ((1024 - (SharedAddress(shared) & 1023)) & 1023);
    const SharedLayout layout = LayoutOf(kK, kGroups, p.stages, segments);
    ring = a + layout.ring;
    gamma = reinterpret_cast<float*>(a + layout.gamma);
    bias = reinterpret_cast<float*>(a + layout.bias);
    full = reinterpret_cast<uint64_t*>(a + layout.barriers);
    empty = full + kMaxStages;
    full_norm = empty + kMaxStages;
  }
  __device__ int Steps() const { return segments * 2 * kTileStages; }  // of the ring
  __device__ uint8_t* Stage(int stage) const { return ring + stage * kStageBytes; }

  const int stages;
  int rank, row0, cluster_row0, first_segment, segments;
  uint8_t* a;
  uint8_t* ring;
  float* gamma;  // then beta
  float* bias;
  uint64_t* full;
  uint64_t* empty;
  uint64_t* full_norm;
};

// The warp that fills the ring, of which one lane works. The first stages are on their way before the previous kernel
// has ended.
template <int kK, int kGroups>
class Producer {
 public:
  __device__ Producer(const Parameters& p, const Block<kK, kGroups>& block) : p_(p), block_(block) {}

  __device__ void Run() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    InitBarriers(lane);
    if (p_.sharing > 1) ClusterSync();  // all have barriers
    const int ahead = min(block_.Steps(), block_.stages);
    if (lane == 0) {
      LoadNorm();
      for (int step = 0; step < ahead; ++step) Load(step, step);
    }
    __syncwarp();
    __syncthreads();
    if (lane == 0) Rest(ahead);
    __syncwarp();
  }

 private:
  __device__ void InitBarriers(int lane) const {
    if (lane == 0) TmaPrefetchMap(&p_.w);
    if (lane < block_.stages) {
      BarrierInit(&block_.full[lane], 1);
      BarrierInit(&block_.empty[lane], kGroups * 4 * p_.sharing);
    }
    if (lane == 31) BarrierInit(block_.full_norm, 1);
    BarrierInitFence();
    __syncwarp();
  }
  __device__ void LoadNorm() const {
    if (p_.gamma == nullptr) return;
    BarrierExpect(block_.full_norm, 2 * kK * 4);
    BulkLoad(block_.gamma, p_.gamma, block_.full_norm, kK * 4);
    BulkLoad(block_.gamma + kK, p_.beta, block_.full_norm, kK * 4);
  }
  // This block's boxes of the step's tile.
  __device__ void Load(int step, int stage) const {
    constexpr int kBoxes = kStageK / 64;
    const int column = (block_.first_segment * 2 + step / Block<kK, kGroups>::kTileStages) * kTile;
    const int first_k = step % Block<kK, kGroups>::kTileStages * kStageK;
    uint64_t* full = &block_.full[stage];
    BarrierExpect(full, kStageBytes);
    for (int box = block_.rank; box < kBoxes; box += p_.sharing) {
      uint8_t* target = block_.Stage(stage) + box * kBoxBytes;
      if (p_.sharing == 1) {
        TmaLoad2d(target, &p_.w, full, first_k + box * 64, column);
      } else {
        TmaLoad2dMulticast(target, &p_.w, full, first_k + box * 64, column,
                           static_cast<uint16_t>((1 << p_.sharing) - 1));
      }
    }
  }
  __device__ void Rest(int ahead) const {
    WaitForPreviousKernel();
    if (block_.cluster_row0 >= RowLimit(p_)) {  // nothing to do, but a block must outlive the copies into its memory
      for (int step = 0; step < ahead; ++step) BarrierWait(&block_.full[step], 0);
      if (p_.gamma != nullptr) BarrierWait(block_.full_norm, 0);
      return;
    }
    int stage = ahead == block_.stages ? 0 : ahead;
    uint32_t parity = 0;
    for (int step = ahead; step < block_.Steps(); ++step) {
      BarrierWait(&block_.empty[stage], parity);
      Load(step, stage);
      if (++stage == block_.stages) stage = 0, parity ^= 1;
    }
  }

  const Parameters& p_;
  const Block<kK, kGroups>& block_;
};

using Accumulators = float[kTile / 2];  // of a thread: see Wgmma

// The products of one tile after the other.
template <typename T, int kK, int kGroups>
class Multiplier {
 public:
  using Operand = uint32_t[kK / 16][4];
  __device__ Multiplier(const Parameters& p, const Block<kK, kGroups>& block) : sharing_(p.sharing), block_(block) {}

  __device__ void Start(Accumulators& sum, const Operand& a) {
#pragma unroll
    for (int part = 0; part < kTileStages; ++part) {
      BarrierWait(&block_.full[stage_], parity_);
      const uint64_t w = TileDescriptor(block_.Stage(stage_));
      WgmmaFence();
#pragma unroll
      for (int k = 0; k < kStageK / 16; ++k) {
        Wgmma<T, kTile>::RS(sum, a[part * (kStageK / 16) + k], w + k / 4 * (kBoxBytes >> 4) + k % 4 * 2, part + k > 0);
      }
      WgmmaCommit();
      if (++stage_ == block_.stages) stage_ = 0, parity_ ^= 1;
    }
  }
  // The results are there, and the stages of the tile may be filled again.
  __device__ void Finish(Accumulators& sum) {
    WgmmaWait<0>();
    WgmmaHold(sum);
#pragma unroll
    for (int part = 0; part < kTileStages; ++part) {
      Release(freed_);
      if (++freed_ == block_.stages) freed_ = 0;
    }
  }

 private:
  static constexpr int kTileStages = Block<kK, kGroups>::kTileStages;

  __device__ void Release(int stage) const {
    const uint32_t lane = threadIdx.x % 32;
    if (sharing_ == 1) {
      if (lane == 0) BarrierArrive(&block_.empty[stage]);
    } else if (lane < static_cast<uint32_t>(sharing_)) {
      BarrierArriveRemote(&block_.empty[stage], lane);
    }
  }

  const int sharing_;
  const Block<kK, kGroups>& block_;
  int stage_ = 0, freed_ = 0;
  uint32_t parity_ = 0;
};

__device__ inline float QuadMax(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFF, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xFFFFFFFF, v, 2));
}
__device__ inline float QuadMin(float v) {
  v = fminf(v, __shfl_xor_sync(0xFFFFFFFF, v, 1));
  return fminf(v, __shfl_xor_sync(0xFFFFFFFF, v, 2));
}
__device__ inline float QuadSum(float v) {
  v += __shfl_xor_sync(0xFFFFFFFF, v, 1);
  return v + __shfl_xor_sync(0xFFFFFFFF, v, 2);
}

// What a thread knows about one of its two rows: the upper (kRow 0) or the lower, 8 further down.
template <int kRemembered>
class RowReader {
 public:
  __device__ void Begin(const Parameters& p, int row, int limit) {
    row_ = row, exists_ = row < limit;
    sums_ = p.sums + row;
    if constexpr (kRemembered > 0) {
      const int64_t group = static_cast<int64_t>(row) * p.segments * kSegmentGroups + threadIdx.x % 4 * 2;
      maxima_ = p.maxima + group;
      kept_ = reinterpret_cast<float4*>(p.kept + group * kGroup);
#pragma unroll
      for (int i = 0; i < kRemembered; ++i) best_[i] = -INFINITY;
    }
  }

  // The thread's 16 columns of a tile, the first or second of `segment`.
  template <int kRow, int kSecond>
  __device__ void Tile(const Accumulators& logits, int segment) {
    const float highest = Highest<kRow>(logits);
    float bound = 0;
    if constexpr (kRemembered > 0) bound = BoundWith(highest);
    AddExponentials<kRow, kSecond>(logits, highest);
    if constexpr (kRemembered > 0) {
      const bool keep = exists_ && highest >= bound;
      maximum_[kSecond] = keep ? highest : -INFINITY;
      if (keep) Keep<kRow>(logits, kept_ + (segment * kSegmentGroups + kSecond) * (kGroup / 4));
    }
  }
  // The four threads of a row put their sums of the segment together.
  __device__ void EndSegment(const Parameters& p, int segment) {
    const float highest = QuadMax(log2_scale_);
    const float sum = QuadSum(sum_ * Exp2(log2_scale_ - highest));
    if (!exists_) return;
    if (threadIdx.x % 4 == 0) sums_[static_cast<int64_t>(segment) * p.rows] = make_float2(highest, sum);
    if constexpr (kRemembered > 0) {
      *reinterpret_cast<float2*>(maxima_ + segment * kSegmentGroups) = make_float2(maximum_[0], maximum_[1]);
    }
  }

 private:
  static constexpr int kSlots = kRemembered > 0 ? kRemembered : 1;

  template <int kRow>
  __device__ static float At(const Accumulators& logits, int i) {
    return logits[i / 2 * 4 + 2 * kRow + i % 2];
  }
  template <int kRow>
  __device__ static float Highest(const Accumulators& logits) {
    float highest[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) highest[i] = At<kRow>(logits, i);
#pragma unroll
    for (int i = 4; i < kGroup; ++i) highest[i % 4] = fmaxf(highest[i % 4], At<kRow>(logits, i));
    return fmaxf(fmaxf(highest[0], highest[1]), fmaxf(highest[2], highest[3]));
  }
  // The largest value that k columns are known to reach, lowered by the slack.
  __device__ float BoundWith(float maximum) {
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
      const float larger = fmaxf(best_[i], maximum);
      maximum = fminf(best_[i], maximum);
      best_[i] = larger;
    }
    return QuadMin(best_[kSlots - 1]) - kSlack;
  }
  // Sums are relative to 2^log2_scale_, the largest exponential of the segment so far, to which `highest` may add.
  template <int kRow, int kSecond>
  __device__ void AddExponentials(const Accumulators& logits, float highest) {
    float scale = fmaxf(highest, kLowest) * kLog2E;
    float sums[2] = {0, 0};
    if constexpr (kSecond == 1) {
      scale = fmaxf(scale, log2_scale_);
      sums[0] = sum_ * Exp2(log2_scale_ - scale);
    }
#pragma unroll
    for (int i = 0; i < kGroup; ++i) sums[i % 2] += Exp2(fmaf(At<kRow>(logits, i), kLog2E, -scale));
    log2_scale_ = scale, sum_ = sums[0] + sums[1];
  }
  template <int kRow>
  __device__ static void Keep(const Accumulators& logits, float4* kept) {
#pragma unroll
    for (int i = 0; i < kGroup / 4; ++i) {
      kept[i] = make_float4(At<kRow>(logits, 4 * i), At<kRow>(logits, 4 * i + 1), At<kRow>(logits, 4 * i + 2),
                            At<kRow>(logits, 4 * i + 3));
    }
  }

  int row_ = 0;
  bool exists_ = false;
  float log2_scale_ = 0, sum_ = 0;
  float best_[kSlots];  // maxima of the thread's groups, descending
  float maximum_[2];    // of the groups of this segment, if kept
  float2* sums_ = nullptr;
  float* maxima_ = nullptr;
  float4* kept_ = nullptr;
};

template <typename T, int kK, int kGroups, int kRemembered>
class Consumer {
 public:
  using Products = Multiplier<T, kK, kGroups>;
  using Reader = RowReader<kRemembered>;
  __device__ Consumer(const Parameters& p, const Block<kK, kGroups>& block)
      : p_(p),
        block_(block),
        thread_(static_cast<int>(threadIdx.x)),
        warp_(__shfl_sync(0xFFFFFFFF, thread_ / 32, 0)),
        group_(warp_ / 4),
        rows_(block.a + group_ * kBlockRows * kK * 2) {}

  __device__ void Run() {
    if (p_.sharing > 1) ClusterArrive();
    FetchVectors();
    WaitForPreviousKernel();
    limit_ = RowLimit(p_);
    if (!NormaliseRows()) return;
    typename Products::Operand a;
    LoadOperand(a);
    Products products(p_, block_);
    Accumulators first, second;
    products.Start(first, a);
    if constexpr (kRemembered == 0) StoreRounded();
    Reader upper, lower;
    const int row = block_.row0 + warp_ * 16 + thread_ % 32 / 4;
    upper.Begin(p_, row, limit_), lower.Begin(p_, row + 8, limit_);
    // The last segment apart: a product that only may be under way would make the compiler wait for each of them.
    int i = 0;
    for (; i + 1 < block_.segments; ++i) ReadSegment<true>(i, products, a, first, second, upper, lower);
    ReadSegment<false>(i, products, a, first, second, upper, lower);
  }

 private:
  // The block's bias, the penalty in it; columns past V: -inf, whose products are 0. Without a norm: v * 1 + 0.
  __device__ void FetchVectors() const {
    for (int i = thread_; i < block_.segments * kSegment; i += Block<kK, kGroups>::kConsumers) {
      const int column = block_.first_segment * kSegment + i;
      float bias = column < p_.V ? 0 : -INFINITY;
      if (column < p_.V && p_.bias != nullptr) bias = p_.bias[column];
      block_.bias[i] = column == p_.blank ? bias - p_.penalty : bias;
    }
    if (p_.gamma != nullptr) return;
    for (int k = thread_; k < kK; k += Block<kK, kGroups>::kConsumers) {
      block_.gamma[k] = 1, block_.gamma[kK + k] = 0;
    }
  }
  // Each warpgroup its own; false if the cluster has none. Reads do not wait for the number of rows.
  __device__ bool NormaliseRows() const {
    bool any = true;
    const auto ready = [&] {
      __syncthreads();
      if (p_.sharing > 1) ClusterWait();
      any = block_.cluster_row0 < limit_;
      if (any && p_.gamma != nullptr) BarrierWait(block_.full_norm, 0);
      return any;
    };
    const RowNorm norm{p_.x, kK, block_.gamma, block_.gamma + kK, p_.gamma != nullptr, p_.eps};
    norm.template Rows<T, kK, 4>(warp_ % 4, block_.row0 + group_ * kBlockRows, p_.rows, rows_, ready);
    NamedBarrier(1 + group_, 128);
    return any;
  }
  __device__ void LoadOperand(typename Products::Operand& a) const {
    const int lane = thread_ % 32, row = warp_ % 4 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < kK / 16; ++k) {
      const uint8_t* tile = rows_ + k / 4 * kBoxBytes;
      LoadMatrices(a[k], SharedAddress(tile + SwizzledByte(row, k % 4 * 16 + lane / 16 * 8)));
    }
  }
  // Segment i of the block, whose first tile is being multiplied.
  template <bool kMore>
  __device__ __forceinline__ void ReadSegment(int i, Products& products, const typename Products::Operand& a,
                                              Accumulators& first, Accumulators& second, Reader& upper,
                                              Reader& lower) const {
    const int segment = block_.first_segment + i;
    products.Finish(first);
    products.Start(second, a);
    AddBias(first, 2 * i);
    upper.template Tile<0, 0>(first, segment), lower.template Tile<1, 0>(first, segment);
    products.Finish(second);
    if constexpr (kMore) products.Start(first, a);
    AddBias(second, 2 * i + 1);
    upper.template Tile<0, 1>(second, segment), lower.template Tile<1, 1>(second, segment);
    upper.EndSegment(p_, segment), lower.EndSegment(p_, segment);
  }
  // The rows as they are multiplied, for the targets; one block of all that have them.
  __device__ void StoreRounded() const {
    if (blockIdx.y != 0) return;
    constexpr int kEights = kK / 8;
    T* rounded = static_cast<T*>(p_.rounded);
    for (int i = thread_ % 128; i < kBlockRows * kEights; i += 128) {
      const int row = i / kEights, k = i % kEights * 8;
      const int64_t target = block_.row0 + group_ * kBlockRows + row;
      if (target >= limit_) return;
      const uint8_t* source = rows_ + k / 64 * kBoxBytes + SwizzledByte(row, k % 64);
      *reinterpret_cast<uint4*>(rounded + target * kK + k) = *reinterpret_cast<const uint4*>(source);
    }
  }
  __device__ void AddBias(Accumulators& sum, int tile) const {
    const float* bias = block_.bias + tile * kTile + thread_ % 4 * 2;
#pragma unroll
    for (int i = 0; i < kTile / 8; ++i) {
      const float2 b = *reinterpret_cast<const float2*>(bias + 8 * i);
      sum[4 * i] += b.x, sum[4 * i + 1] += b.y, sum[4 * i + 2] += b.x, sum[4 * i + 3] += b.y;
    }
  }

  const Parameters& p_;
  const Block<kK, kGroups>& block_;
  const int thread_, warp_, group_;
  uint8_t* const rows_;
  int limit_ = 0;
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// Two warpgroups of consumers get registers from that of the producer.
template <typename T, int kK, int kGroups, int kRemembered>
__global__ void __launch_bounds__(Threads(kGroups), 1) HeadKernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  constexpr int kConsumers = Block<kK, kGroups>::kConsumers;
  LetNextKernelStart();
  const Block<kK, kGroups> block(p, shared);
  if (threadIdx.x >= kConsumers) {
    if constexpr (kGroups == 2) RegistersDown<40>();
    if (threadIdx.x < kConsumers + 32) {
      Producer<kK, kGroups>(p, block).Run();
    } else {
      if (p.sharing > 1) ClusterSync();
      __syncthreads();
    }
  } else {
    if constexpr (kGroups == 2) RegistersUp<232>();
    Consumer<T, kK, kGroups, kRemembered>(p, block).Run();
  }
  if (p.sharing > 1) ClusterSync();  // no block has ended while another one writes to it
#endif
}

template <typename T, int kK, int kGroups>
Kernel OfRemembered(int remembered) {
  if (remembered == 0) return HeadKernel<T, kK, kGroups, 0>;
  return remembered == 3 ? HeadKernel<T, kK, kGroups, 3> : HeadKernel<T, kK, kGroups, 8>;
}

template <typename T>
Kernel FindKernel(int64_t K, int row_groups, int64_t k) {
  const int remembered = RememberedFor(k);
  if (K == 256 && row_groups == 1) return OfRemembered<T, 256, 1>(remembered);
  if (K == 256 && row_groups == 2) return OfRemembered<T, 256, 2>(remembered);
  if (K == 512 && row_groups == 1) return OfRemembered<T, 512, 1>(remembered);
  return nullptr;
}

}  // namespace ting::cuda::head
