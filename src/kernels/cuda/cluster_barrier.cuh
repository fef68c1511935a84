// src/kernels/cuda/cluster_barrier.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The cluster barrier of the fused heads and feed-forward kernels, whose warps arrive early and wait late. It is
// hopper.cuh's, but for a build with TING_RACECHECK: compute-sanitizer's racecheck (up to 2026.4) lets no warp out of
// barrier.cluster.wait until all warps of its block have come to theirs, where PTX asks for arrivals alone, so that a
// kernel stands still when one that has waited is waited for by one that has only arrived. There mbarriers do the same:
// a block has two that take turns and count an arrival of each thread of the cluster.
#pragma once

#include "kernels/cuda/hopper.cuh"

namespace ting::cuda {

#if !defined(TING_RACECHECK)

// All threads of a cluster, first of all and last of all; the latter for racecheck, lest it think that a block had ended
// while another one reads its memory.
__device__ inline void StartCluster() {}
__device__ inline void EndCluster() {}
// After ClusterSync, by `threads` of the block, where they read what others of them wrote: racecheck does not take the
// mbarriers' order for that of ordinary accesses.
__device__ inline void SyncForRacecheck(int, int) {}

#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
namespace racecheck {

struct ClusterBarrier {
  uint64_t barriers[2];
  uint8_t arrivals[1024];  // of each thread
};
__device__ __forceinline__ ClusterBarrier& OfBlock() {
  __shared__ ClusterBarrier barrier;
  return barrier;
}

__device__ inline void StartCluster() {
  ClusterBarrier& own = OfBlock();
  if (threadIdx.x == 0) {
    for (uint64_t& barrier : own.barriers) BarrierInit(&barrier, blockDim.x * ClusterSize());
    BarrierInitFence();
  }
  own.arrivals[threadIdx.x] = 0;
  cuda::ClusterSync();
}
__device__ inline void EndCluster() { cuda::ClusterSync(); }
__device__ inline void ClusterArrive() {
  ClusterBarrier& own = OfBlock();
  uint64_t* const barrier = &own.barriers[own.arrivals[threadIdx.x]++ % 2];
  for (uint32_t block = 0; block < ClusterSize(); ++block) {
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(MapToBlock(barrier, block))
                 : "memory");
  }
}
__device__ inline void ClusterArriveRelaxed() { ClusterArrive(); }
__device__ inline void ClusterWait() {
  ClusterBarrier& own = OfBlock();
  const uint32_t number = own.arrivals[threadIdx.x] - 1U;
  asm volatile(
      "{\n .reg .pred done;\n"
      "WAIT:\n mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      " @done bra DONE;\n bra WAIT;\n"
      "DONE:\n}" ::"r"(SharedAddress(&own.barriers[number % 2])),
      "r"(number / 2 % 2)
      : "memory");
  __syncwarp();
}
__device__ inline void ClusterSync() {
  ClusterArrive();
  ClusterWait();
}
__device__ inline void SyncForRacecheck(int id, int threads) { NamedBarrier(id, threads); }

}  // namespace racecheck

// What the kernels' namespaces call by these names.
#define TING_CLUSTER_BARRIER             \
  using racecheck::ClusterArrive;        \
  using racecheck::ClusterArriveRelaxed; \
  using racecheck::ClusterSync;          \
  using racecheck::ClusterWait;          \
  using racecheck::EndCluster;           \
  using racecheck::StartCluster;         \
  using racecheck::SyncForRacecheck;
#endif

#if !defined(TING_CLUSTER_BARRIER)
#define TING_CLUSTER_BARRIER
#endif

}  // namespace ting::cuda
