// src/kernels/cuda/hopper.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The instructions of sm_90a that the fused kernels are made of: mbarriers, the bulk tensor copy (TMA) and clusters;
// warpgroup matrix products are in wgmma.cuh. One function an instruction, nothing clever.
// Operands in shared memory are K-major tiles of 64 16-bit elements a row (128 bytes) in the 128-byte swizzle: element
// (r, k) lies at byte r * 128 + ((2 * k) ^ ((r & 7) << 4)), tiles start at multiples of 1024 bytes.
#pragma once

#include <cuda.h>  // CUtensorMap
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace ting::cuda {

inline constexpr int kSwizzleRowBytes = 128;
inline constexpr int kTileColumns = 64;  // 16-bit elements in a swizzled row

__device__ inline uint32_t SharedAddress(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// Byte of element (row, column) in a swizzled tile; column < 64.
__device__ inline uint32_t SwizzledByte(int row, int column) {
  return static_cast<uint32_t>(row * kSwizzleRowBytes + ((2 * column) ^ ((row & 7) << 4)));
}

// Bytes from `shared`, where a block's dynamic shared memory begins, to the first place for a tile.
__device__ inline uint32_t BytesToTile(const void* shared) { return (1024 - (SharedAddress(shared) & 1023)) & 1023; }

// ---- mbarriers -----------------------------------------------------------------------------------------------------

__device__ inline void BarrierInit(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals) : "memory");
}
// Makes initialised barriers visible to the copy engine and to the cluster.
__device__ inline void BarrierInitFence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void BarrierExpect(uint64_t* barrier, uint32_t bytes) {  // arrives as well
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(bytes)
               : "memory");
}
__device__ inline void BarrierArrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
// The barrier at the same place of another block of the cluster.
__device__ inline void BarrierArriveRemote(uint64_t* barrier, uint32_t block) {
  asm volatile(
      "{\n .reg .b32 remote;\n mapa.shared::cluster.u32 remote, %0, %1;\n"
      " mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(SharedAddress(barrier)),
      "r"(block)
      : "memory");
}
__device__ inline void BarrierWait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n .reg .pred done;\n"
      "WAIT:\n mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      " @done bra DONE;\n bra WAIT;\n"
      "DONE:\n}" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// ---- bulk tensor copies --------------------------------------------------------------------------------------------

__device__ inline void TmaPrefetchMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// One box of a rank 2 tensor map into shared memory; (x, y) are the column and row of its first element.
__device__ inline void TmaLoad2d(void* target, const CUtensorMap* map, uint64_t* barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          SharedAddress(target)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(x), "r"(y)
      : "memory");
}
// The same into every block of `mask` at the same place; each block's barrier counts its own bytes.
__device__ inline void TmaLoad2dMulticast(void* target, const CUtensorMap* map, uint64_t* barrier, int x, int y,
                                          uint16_t mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(SharedAddress(target)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(x), "r"(y), "h"(mask)
      : "memory");
}
// `bytes` (a multiple of 16) in a row; both addresses are multiples of 16.
__device__ inline void BulkLoad(void* target, const void* source, uint64_t* barrier, uint32_t bytes) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   SharedAddress(target)),
               "l"(source), "r"(bytes), "r"(SharedAddress(barrier))
               : "memory");
}
__device__ inline void TmaLoad3d(void* target, const CUtensorMap* map, uint64_t* barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
          SharedAddress(target)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
// A box that nobody else will read: it is the first to leave L2 again, so that what lies there may stay.
__device__ inline void TmaLoad3dOnce(void* target, const CUtensorMap* map, uint64_t* barrier, int x, int y, int z) {
  constexpr uint64_t kEvictFirst = 0x12F0000000000000;  // as createpolicy.fractional.L2::evict_first makes it
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(SharedAddress(target)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(x), "r"(y), "r"(z), "l"(kEvictFirst)
      : "memory");
}
// A box on its way into L2.
__device__ inline void TmaPrefetch2d(const CUtensorMap* map, int x, int y) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global [%0, {%1, %2}];" ::"l"(map), "r"(x), "r"(y) : "memory");
}
__device__ inline void TmaPrefetch3d(const CUtensorMap* map, int x, int y, int z) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global [%0, {%1, %2, %3}];" ::"l"(map), "r"(x), "r"(y), "r"(z)
               : "memory");
}
// Ordinary stores to shared memory become visible to wgmma and the copy engine (before the barrier that follows).
__device__ inline void FenceAsyncProxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- clusters and dependent launches -------------------------------------------------------------------------------

__device__ inline uint32_t ClusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline uint32_t ClusterSize() {  // in blocks
  uint32_t size;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
__device__ inline uint32_t ClusterNumber() {  // of clusters in a row
  uint32_t number;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(number));
  return number;
}
__device__ inline uint32_t ClustersInRow() {
  uint32_t count;
  asm volatile("mov.u32 %0, %%nclusterid.x;" : "=r"(count));
  return count;
}
__device__ inline void ClusterSync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// ClusterSync in two halves: what a thread does between them, others need not wait for.
__device__ inline void ClusterArrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
// An arrival after which nothing of this thread's memory need be seen: does not wait for its stores.
__device__ inline void ClusterArriveRelaxed() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
__device__ inline void ClusterWait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
// The address of `shared` in another block of the cluster, for LoadRemote.
__device__ inline uint32_t MapToBlock(const void* shared, uint32_t block) {
  uint32_t remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(SharedAddress(shared)), "r"(block));
  return remote;
}
// Shared memory into that of another block, whose barrier counts the bytes; a multiple of 16. `target` and `barrier`
// are addresses of MapToBlock. Stores to `source` need FenceAsyncProxy first.
__device__ inline void PushToBlock(uint32_t target, const void* source, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   target),
               "r"(SharedAddress(source)), "r"(bytes), "r"(barrier)
               : "memory");
}
__device__ inline float4 LoadRemote4(uint32_t address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address));
  return v;
}
// A barrier of some of the block's warps: `threads` of them, a multiple of 32; 0 is __syncthreads's own.
__device__ __forceinline__ void NamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Of those threads, one that does not wait.
__device__ __forceinline__ void NamedBarrierArrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Programmatic dependent launch: waits for the kernel before this one, then lets the one after it start, whose code up
// to the same place runs beside this one's. Not earlier: kernels that start under one another several deep made a chain
// of 100 short ones 10 % slower (H200, a batch of one: 0.657 against 0.593 ms). Without the launch attribute it waits
// for nothing, and before Hopper it does nothing.
__device__ inline void WaitForPreviousKernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
// The exception: before WaitForPreviousKernel, in a kernel of few blocks that is shorter than the next one's code up to
// the same place.
__device__ inline void LetNextKernelStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// ---- 16-bit tiles of registers -------------------------------------------------------------------------------------

// Two values as 16-bit elements in one register, the lower one first; f16 saturates, in the same instruction.
template <typename T>
__device__ inline uint32_t PackSaturated(float low, float high) {
  uint32_t packed;
  if constexpr (std::is_same_v<T, __half>) {
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  }
  return packed;
}
// Four 8 x 8 matrices of 16-bit elements to shared memory: lane l gives the address of row l % 8 of matrix l / 8, and
// holds in each register columns 2 * (l % 4) and the next of row l / 4.
__device__ inline void StoreMatrices(void* row, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(SharedAddress(row)), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}
__device__ inline void StoreMatrices(void* row, const uint32_t (&v)[4]) { StoreMatrices(row, v[0], v[1], v[2], v[3]); }
// The same with each matrix transposed: the address is of column l % 8, whose rows then lie side by side, and a lane
// holds rows 2 * (l % 4) and the next of column l / 4.
__device__ inline void StoreMatricesTransposed(void* column, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(SharedAddress(column)),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}
__device__ inline void StoreMatricesTransposed(void* column, const uint32_t (&v)[4]) {
  StoreMatricesTransposed(column, v[0], v[1], v[2], v[3]);
}
__device__ inline void StoreMatricesTransposed(void* row, uint32_t a, uint32_t b) {  // two; lanes 0 to 15 give addresses
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(SharedAddress(row)), "r"(a), "r"(b)
               : "memory");
}

// ---- registers of a warpgroup --------------------------------------------------------------------------------------

template <int kRegisters>
__device__ inline void RegistersUp() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void RegistersDown() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace ting::cuda
