// src/kernels/cuda/fused_ffn_alone.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What the fused feed-forward kernels share whose blocks own their rows alone (fused_ffn_paired.cu,
// fused_ffn_unsplit.cu): barriers and producers. Of the four warps beyond the consumers two bring weights, one for each
// warpgroup, and two the vectors.
#pragma once

#include "kernels/cuda/fused_ffn_ring.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct LoneBarriers {
  uint64_t full[kMaxStages], empty[kMaxStages];
  uint64_t vectors;  // an arrival of each lane of two warps
};

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
    WaitForAllCopies();
    BarrierArrive(&barriers->vectors);
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
