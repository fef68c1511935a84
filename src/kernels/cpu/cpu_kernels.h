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

}  // namespace ting
