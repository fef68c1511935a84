// src/kernels/cuda/fused_head_products.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Of fused_head_kernel.cuh: what a block works on, the warp that fills its ring, and the products of a segment.
#pragma once

#include "kernels/cuda/cluster_barrier.cuh"
#include "kernels/cuda/fused_head_parameters.h"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/row_norm.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda::head {

TING_CLUSTER_BARRIER

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr float kLog2E = 1.44269504F;
constexpr int kRowTileBytes = kBlockRows * kSwizzleRowBytes;  // 64 columns of a warpgroup's rows

__device__ inline int RowLimit(const Parameters& p) {
  return p.count == nullptr ? p.rows : min(*p.count - p.first_row, p.rows);
}

// What a block works on, and where its shared memory lies.
template <int kK, int kGroups>
struct Block {
  static constexpr int kRows = kGroups * kBlockRows;
  static constexpr int kConsumers = kGroups * 128;
  static constexpr int kStagesEach = kK / kStageK;  // of a segment

  __device__ Block(const Parameters& p, uint8_t* shared) : stages(p.stages) {
    rank = static_cast<int>(blockIdx.x) & (p.sharing - 1);
    row0 = static_cast<int>(blockIdx.x) * kRows;
    cluster_row0 = row0 - rank * kRows;
    const int part = static_cast<int>(blockIdx.y);
    first_segment = p.segments * part / p.splits;
    segments = p.segments * (part + 1) / p.splits - first_segment;
    products = segments + (p.k > 0 && segments > 1 ? 1 : 0);
    a = shared + BytesToTile(shared);
    const SharedLayout layout = LayoutOf(kK, kGroups, p.stages, segments, p.k);
    ring = a + layout.ring;
    gamma = reinterpret_cast<float*>(a + layout.gamma);
    bias = reinterpret_cast<float*>(a + layout.bias);
    full = reinterpret_cast<uint64_t*>(a + layout.barriers);
    empty = full + kMaxStages;
    full_norm = empty + kMaxStages;
  }
  __device__ int Steps() const { return products * kStagesEach; }  // of the ring
  __device__ uint8_t* Stage(int stage) const { return ring + stage * kStageBytes; }

  const int stages;
  int rank, row0, cluster_row0, first_segment, segments;
  int products;  // of the k best: the first segment comes again at the end
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
      if (p_.gamma != nullptr) LoadNorm(block_.gamma, p_.gamma, p_.beta, kK, block_.full_norm);
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
  // This block's boxes of a step.
  __device__ void Load(int step, int stage) const {
    constexpr int kBoxes = kStageK / 64;
    const int product = step / Block<kK, kGroups>::kStagesEach;
    const int column = (block_.first_segment + (product < block_.segments ? product : 0)) * kSegment;
    const int first_k = step % Block<kK, kGroups>::kStagesEach * kStageK;
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

using Accumulators = float[kSegment / 2];  // of a thread: see Wgmma

// The products of one segment after the other.
template <typename T, int kK, int kGroups>
class Multiplier {
 public:
  // `rows`: of the warpgroup, in tiles of 64 columns.
  __device__ Multiplier(const Parameters& p, const Block<kK, kGroups>& block, const uint8_t* rows)
      : sharing_(p.sharing), block_(block), rows_(TileDescriptor(rows)) {}

  // Onto what `sum` holds, or from zero.
  __device__ void Start(Accumulators& sum, bool onto) {
#pragma unroll
    for (int part = 0; part < kStagesEach; ++part) {
      BarrierWait(&block_.full[stage_], parity_);
      const uint64_t rows = rows_ + part * (kStageK / 64) * (kRowTileBytes >> 4);
      const uint64_t w = TileDescriptor(block_.Stage(stage_));
      WgmmaFence();
#pragma unroll
      for (int k = 0; k < kStageK / 16; ++k) {
        Wgmma<T, kSegment>::SS(sum, rows + k / 4 * (kRowTileBytes >> 4) + k % 4 * 2,
                               w + k / 4 * (kBoxBytes >> 4) + k % 4 * 2, onto || part + k > 0);
      }
      WgmmaCommit();
      if (++stage_ == block_.stages) stage_ = 0, parity_ ^= 1;
    }
  }
  // The results are there, and the stages may be filled again; all but the last a little sooner.
  __device__ void Finish(Accumulators& sum) {
    WgmmaWait<1>();
#pragma unroll
    for (int part = 0; part + 1 < kStagesEach; ++part) Release();
    WgmmaWait<0>();
    WgmmaHold(sum);
    Release();
  }

 private:
  static constexpr int kStagesEach = Block<kK, kGroups>::kStagesEach;

  __device__ void Release() {
    const uint32_t lane = threadIdx.x % 32;
    if (sharing_ == 1) {
      if (lane == 0) BarrierArrive(&block_.empty[freed_]);
    } else if (lane < static_cast<uint32_t>(sharing_)) {
      BarrierArriveRemote(&block_.empty[freed_], lane);
    }
    if (++freed_ == block_.stages) freed_ = 0;
  }

  const int sharing_;
  const Block<kK, kGroups>& block_;
  const uint64_t rows_;
  int stage_ = 0, freed_ = 0;
  uint32_t parity_ = 0;
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::head
