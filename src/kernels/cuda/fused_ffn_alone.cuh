// src/kernels/cuda/fused_ffn_alone.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What the fused feed-forward kernels share whose blocks own their rows alone (fused_ffn_paired.cu,
// fused_ffn_unsplit.cu): how a block starts, and its producers. Of its four warps beyond the consumers two bring
// weights, one for each warpgroup, and two the vectors.
#pragma once

#include "kernels/cuda/fused_ffn_ring.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct LoneBarriers {
  uint64_t full[kMaxStages], empty[kMaxStages];
  uint64_t vectors;  // an arrival of two warps
};

// Barriers, and vectors of the slice or slices of `place`; all threads of the block return together.
__device__ __forceinline__ void StartAlone(const Arguments& arguments, const Ring& ring, const Place& place,
                                           LoneBarriers* barriers, float* vectors, int warp, int lane) {
  constexpr int kReaders = 4;  // warps of a stage
  if (warp == kWarps) {
    if (lane < kMaxStages) {
      BarrierInit(&ring.full[lane], 1);
      BarrierInit(&ring.empty[lane], kReaders);
    } else if (lane == kMaxStages) {
      BarrierInit(&barriers->vectors, 2);
    }
    BarrierInitFence();
  } else if (threadIdx.x == kConsumers + 32) {
    TmaPrefetchMap(&arguments.w1);
    TmaPrefetchMap(&arguments.w2);
  } else if (warp >= kWarps + 2) {
    // Before the weights, behind which they would arrive.
    StartVectors(arguments, place, vectors, static_cast<int>(threadIdx.x) - kConsumers - 64, 64);
  }
  __syncthreads();
}

// The role of the warps beyond the consumers; `place` is of the warp's slice.
template <typename Order>
__device__ __forceinline__ void ProduceAlone(const Arguments& arguments, const Ring& ring, const Place& place,
                                             LoneBarriers* barriers, int warp, int lane) {
  const int group = warp - kWarps;
  const bool leader = group < 2 && lane == 0;
  GroupProducer<Order> producer(arguments, ring, place, group);
  if (leader) {
    producer.LoadFirst();
    producer.PrefetchRest(static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
  } else if (group >= 2) {
    CopiesAsyncWait();
    __syncwarp();
    if (lane == 0) BarrierArrive(&barriers->vectors);
  }
  __syncwarp();
  WaitForPreviousKernel();
  if (!leader) return;
  if (place.first_row < ValidRows(arguments)) {
    producer.LoadRest();
  } else {
    producer.AwaitFirst();
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
