// src/kernels/cuda/async_copies.cuh
// SPDX-License-Identifier: Apache-2.0
//
// A thread's own copies from global to shared memory in the background (cp.async), which every GPU since 8.0 has. One
// function an instruction.
#pragma once

#include "kernels/cuda/hopper.cuh"

namespace ting::cuda {

// 16 (or 4) bytes, zeros if not `valid`: then the source is not read.
__device__ inline void CopyAsync16(uint32_t target, const void* source, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void CopyAsync16(void* target, const void* source, bool valid) {
  CopyAsync16(SharedAddress(target), source, valid);
}
__device__ inline void CopyAsync4(uint32_t target, const void* source, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source), "r"(valid ? 4 : 0)
               : "memory");
}
__device__ inline void CopyAsync4(void* target, const void* source) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(SharedAddress(target)), "l"(source) : "memory");
}
// What the thread has asked for since the last one is a group.
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>  // until at most that many of the thread's groups are under way
__device__ inline void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
__device__ inline void WaitForAllCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace ting::cuda
