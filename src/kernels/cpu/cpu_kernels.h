// src/kernels/cpu/cpu_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// The CPU backend: packed micro-kernels and vector code, compiled once an instruction set, chosen at run time.
#pragma once

#include <span>

#include "base/thread_pool.h"
#include "kernels/kernel.h"

namespace ting {

class CpuStream : public Stream {
 public:
  explicit CpuStream(ThreadPool& pool) : pool_(pool) {}
  ThreadPool& pool() { return pool_; }

 private:
  ThreadPool& pool_;
};

std::span<const KernelEntry> CpuKernels();
// The type in which this machine's products read the matrices of --precision int16: s8x2 by AMX, else s16. Weights of
// the other type are packed anew when a kernel is made.
DType Int16MatrixType();

}  // namespace ting
