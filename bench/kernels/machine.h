// bench/kernels/machine.h
// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks measure against: multiply-adds on registers alone, in the same process, best of many runs.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "kernels/cpu/isa/isa.h"
#include "tensor/dtype.h"

namespace ting::bench {

inline const cpu::IsaTable& Isa() {
  const char* problem = "";
  const cpu::IsaTable* isa = cpu::ActiveIsa(&problem);
  if (isa == nullptr) {
    std::fprintf(stderr, "%s\n", problem);
    std::exit(1);
  }
  return *isa;
}

// CPU time of this thread: what a neighbour on a shared machine takes is not counted. Wall time where several
// threads work.
inline double Seconds(bool wall = false) {
  timespec now;
  clock_gettime(wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// One core's floating-point operations a second.
inline double PeakFlops(bool bf16) {
  alignas(64) float sink[64] = {};
  double best = 0;
  for (int i = 0; i < 400; ++i) {  // short runs: one of them is undisturbed
    const double start = Seconds();
    const double flops = Isa().peak(20000, bf16, sink);
    best = std::max(best, flops / (Seconds() - start));
  }
  return best;
}

// The rate that products of matrices of this type can reach: bf16x2 takes three of bf16, s8x2 three of
// integers half as wide, an instruction of s16 multiplies two values a lane.
inline double ProductPeak(DType dtype) {
  static const double f32 = PeakFlops(false), bf16 = PeakFlops(true);
  if (dtype == DType::kF32) return f32;
  if (dtype == DType::kS16) return 2 * f32;
  if (dtype == DType::kS8x2) return bf16 * 2 / 3;
  return dtype == DType::kBF16x2 ? bf16 / 3 : bf16;
}

}  // namespace ting::bench
