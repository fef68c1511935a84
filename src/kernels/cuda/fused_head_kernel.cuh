// src/kernels/cuda/fused_head_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The product of fused_head.h. A block has 64 rows a warpgroup of consumers, normalised once into shared memory, where
// they stay; W passes by in segments of 128 columns, of which the producer's lane keeps a ring filled. Warpgroups take
// turns: one multiplies while the others work on their results.
//
// Sums: of every segment of 128 columns, from zero, whatever part of the vocabulary a block has; the finishing kernel
// adds the segments. So the bits do not depend on how the vocabulary is split.
//
// The k best: a thread has 16 columns of a row in each half of a segment, a group. Every thread remembers the largest
// logits that it saw (of each 8 columns one), and the four threads of a row find a bound in them that at least k
// columns reach. Of most groups no element does, of some a single one, which is stored; if several do, the group is
// kept as it is, to be looked through by the finishing kernel. So nothing is ever full: were all logits equal or
// ascending, all groups would be kept. A block's first segment, which meets no bound yet, is multiplied again at the
// end, for the bound of the last.
//
// Bounds at K = 256, in clocks of a multiprocessor, for 128 rows and a segment: 2048 of tensor cores; of shared memory
// 1536 (rows and W, read by two warpgroups) and 512 (W arriving); 1024 of special functions. L2 gives about 24 bytes a
// clock to each multiprocessor when all ask, and a segment of 64 KB would take 2730: hence three warpgroups, which need
// it for 192 rows, and sharing.
#pragma once

#include "kernels/cuda/fused_head_products.cuh"
#include "kernels/cuda/fused_head_readers.cuh"
#include "kernels/cuda/row_norm.cuh"

namespace ting::cuda::head {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <typename T, int kK, int kGroups, int kRemembered>
class Consumer {
 public:
  using Products = Multiplier<T, kK, kGroups>;
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
    if constexpr (kRemembered == 0) {
      StoreRounded();
      SumSegments();
    } else {
      ReadSegments();
    }
  }

 private:
  static constexpr int kTurn = 1 + kGroups;  // barriers from there on: turns of the warpgroups; from 1 on: their own

  // The block's bias, the penalty in it, to base 2 for SumReader, in pairs twice for StartWithBias; columns past V:
  // -inf, whose products are 0. Without a norm: v * 1 + 0.
  __device__ void FetchVectors() const {
    for (int i = thread_; i < block_.segments * kSegment; i += Block<kK, kGroups>::kConsumers) {
      const int column = block_.first_segment * kSegment + i;
      float bias = column < p_.V ? 0 : -INFINITY;
      if (column < p_.V && p_.bias != nullptr) bias = p_.bias[column];
      if (column == p_.blank) bias -= p_.penalty;
      if constexpr (kRemembered == 0) {
        block_.bias[i] = bias * kLog2E;
      } else {
        block_.bias[i / 2 * 4 + i % 2] = block_.bias[i / 2 * 4 + 2 + i % 2] = bias;
      }
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
    norm.template Rows<T, kK, kBlockRows, 4>(warp_ % 4, block_.row0 + group_ * kBlockRows, p_.rows, rows_, ready);
    FenceAsyncProxy();
    NamedBarrier(1 + group_, 128);
    return any;
  }
  __device__ void ReadSegments() const {
    Products products(p_, block_, rows_);
    Accumulators sum;
    const int row = block_.row0 + warp_ * 16 + thread_ % 32 / 4;
    RowReader<0, kRemembered> upper(p_, row, limit_);
    RowReader<1, kRemembered> lower(p_, row, limit_);
#pragma unroll 1
    for (int i = 0; i < block_.products; ++i) {
      const bool again = i == block_.segments;  // the first segment, with the bound of the last
      const int at = again ? 0 : i, segment = block_.first_segment + at;
      StartWithBias(sum, block_.bias + at * kSegment * 2);
      Multiply(i, products, sum);
      upper.Look(sum), lower.Look(sum);
      if (!again) upper.Read(sum, segment), lower.Read(sum, segment);
      if (i > 0 || block_.products == 1) upper.Select(sum, segment), lower.Select(sum, segment);
    }
  }
  __device__ void SumSegments() const {
    Products products(p_, block_, rows_);
    Accumulators sum;
    const SumReader reader(p_, block_.row0 + warp_ * 16 + thread_ % 32 / 4, limit_);
#pragma unroll 1
    for (int i = 0; i < block_.segments; ++i) {
      Multiply(i, products, sum);
      reader.Read(sum, block_.bias + i * kSegment + thread_ % 4 * 2, block_.first_segment + i);
    }
  }
  // The products of the block's segment i. Warpgroups take turns: the tensor cores work for one, while the others read.
  __device__ void Multiply(int i, Products& products, Accumulators& sum) const {
    if (kGroups > 1 && i + group_ > 0) NamedBarrier(kTurn + group_, 256);
    products.Start(sum, kRemembered > 0);
    const bool last = i + 1 == block_.products && group_ + 1 == kGroups;
    if (kGroups > 1 && !last) NamedBarrierArrive(kTurn + (group_ + 1) % kGroups, 256);
    products.Finish(sum);
  }
  // Of two columns for both rows of a thread at once: a read, no additions.
  __device__ void StartWithBias(Accumulators& sum, const float* bias) const {
    const float4* fours = reinterpret_cast<const float4*>(bias) + thread_ % 4;
#pragma unroll
    for (int j = 0; j < kSegment / 8; ++j) {
      const float4 four = fours[4 * j];
      sum[4 * j] = four.x, sum[4 * j + 1] = four.y, sum[4 * j + 2] = four.z, sum[4 * j + 3] = four.w;
    }
  }
  // The rows as they are multiplied, for the targets; each block of those that have them stores a part.
  __device__ void StoreRounded() const {
    constexpr int kEights = kK / 8;
    T* rounded = static_cast<T*>(p_.rounded);
#pragma unroll 1
    for (int i = thread_ % 128 + 128 * static_cast<int>(blockIdx.y); i < kBlockRows * kEights; i += 128 * p_.splits) {
      const int row = i / kEights, k = i % kEights * 8;
      const int64_t target = block_.row0 + group_ * kBlockRows + row;
      if (target >= limit_) return;
      const uint8_t* source = rows_ + k / 64 * kRowTileBytes + SwizzledByte(row, k % 64);
      *reinterpret_cast<uint4*>(rounded + target * kK + k) = *reinterpret_cast<const uint4*>(source);
    }
  }
  const Parameters& p_;
  const Block<kK, kGroups>& block_;
  const int thread_, warp_, group_;
  uint8_t* const rows_;
  int limit_ = 0;
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// Several warpgroups of consumers get registers from that of the producer.
template <typename T, int kK, int kGroups, int kRemembered>
__global__ void __launch_bounds__(Threads(kGroups), 1) HeadKernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  constexpr int kConsumers = Block<kK, kGroups>::kConsumers;
  const Block<kK, kGroups> block(p, shared);
  StartCluster();
  if (threadIdx.x >= kConsumers) {
    if constexpr (kGroups > 1) RegistersDown<kGroups == 2 ? 40 : 32>();
    if (threadIdx.x < kConsumers + 32) {
      Producer<kK, kGroups>(p, block).Run();
    } else {
      if (p.sharing > 1) ClusterSync();
      __syncthreads();
    }
  } else {
    if constexpr (kGroups > 1) RegistersUp<kGroups == 2 ? 232 : 160>();
    Consumer<T, kK, kGroups, kRemembered>(p, block).Run();
  }
  if (p.sharing > 1) ClusterSync();  // no block has ended while another one writes to it
  EndCluster();
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
  if (K == 256 && row_groups == 3) return OfRemembered<T, 256, 3>(remembered);
  if (K == 512 && row_groups == 1) return OfRemembered<T, 512, 1>(remembered);
  return nullptr;
}

}  // namespace ting::cuda::head
