// src/decoders/cuda/log_add.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/cuda/log_add.h"

namespace ting::cuda_ctc {

// With s the logistic function: softplus' = s and s' = s - s^2, which gives the coefficients one by one.
void MakeSoftplusTable(SoftplusCell* table) {
  for (int i = 0; i < kSoftplusCells; ++i) {
    const long double middle = -(i + 0.5L) / kSoftplusCellsPerUnit;
    long double s[8];
    s[0] = 1 / (1 + std::exp(-middle));
    table[i].c[0] = static_cast<double>(std::log1p(std::exp(middle)));
    for (int n = 0; n < 7; ++n) {
      table[i].c[n + 1] = static_cast<double>(s[n] / (n + 1));
      long double square = 0;
      for (int k = 0; k <= n; ++k) square += s[k] * s[n - k];
      s[n + 1] = (s[n] - square) / (n + 1);
    }
  }
}

}  // namespace ting::cuda_ctc
