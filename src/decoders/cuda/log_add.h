// src/decoders/cuda/log_add.h
// SPDX-License-Identifier: Apache-2.0
//
// log(e^a + e^b) for the CUDA searches: max + softplus(min - max), the softplus from a table of polynomials. Not CUDA's
// exp and log, because two such sums follow one another in every frame and are the longest chain of it: this one is
// nine dependent operations. It is also the same bits on the GPU and on the CPU, so that the emulated search of the
// tests equals the kernel exactly, ties included.
// Error       3e-16 absolute, of which 2e-16 stand already in log(1 + exp(x)) as the CPU search rounds it. Prefixes
//             whose scores differ by less may change places; equal inputs give equal sums, so ties stay ties.
// Guarantee   never less than either argument, which the search's bounds rely on
#pragma once

#include <cmath>
#include <limits>

#include "base/device_code.h"

namespace ting::cuda_ctc {

constexpr int kSoftplusCellsPerUnit = 16;
constexpr int kSoftplusRange = 37;  // below -37 the sum is the larger argument, to the last bit
constexpr int kSoftplusCells = kSoftplusRange * kSoftplusCellsPerUnit;

// Taylor polynomial of softplus around the middle of [-(i + 1), -i] / kSoftplusCellsPerUnit, lowest power first. The
// first term that is left out is below 3e-17.
struct alignas(64) SoftplusCell {
  double c[8];
};

// Fills [kSoftplusCells].
void MakeSoftplusTable(SoftplusCell* table);

struct TableLogAdd {
  const SoftplusCell* table;

  TING_DEVICE double operator()(double a, double b) const {
    const double high = a > b ? a : b;
    const double x = (a > b ? b : a) - high;  // NaN where both are -inf
    if (!(x > -kSoftplusRange)) return high;
    const int i = static_cast<int>(x * -kSoftplusCellsPerUnit);
    const double y = x + (i + 0.5) / kSoftplusCellsPerUnit;
    const SoftplusCell cell = table[i];
    const double* c = cell.c;
    const double y2 = y * y;
    const double low = fma(y2, fma(y, c[3], c[2]), fma(y, c[1], c[0]));
    const double softplus = fma(y2 * y2, fma(y2, fma(y, c[7], c[6]), fma(y, c[5], c[4])), low);
    return high + (softplus > 0 ? softplus : 0);
  }
};

}  // namespace ting::cuda_ctc
