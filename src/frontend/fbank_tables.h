// src/frontend/fbank_tables.h
// SPDX-License-Identifier: Apache-2.0
//
// What the definition of the filter bank (fbank.h) says in numbers, in double, whatever computes with it.
#pragma once

#include <vector>

#include "frontend/fbank.h"

namespace ting {

struct Twiddle {
  double re, im;
};

// exp(-2 pi i numerator / denominator)
Twiddle UnitRoot(double numerator, double denominator);

struct FbankTables {
  int frame_length = 0, frame_shift = 0, fft_size = 0, num_mel = 0;
  std::vector<double> window;             // [frame_length]
  std::vector<int> mel_start, mel_count;  // [num_mel], the bins under each triangle
  std::vector<double> mel_weights;        // the triangles one after the other, divided by 4
};

// Refuses what Fbank::Create refuses.
Result<FbankTables> MakeFbankTables(const FbankOptions& options);

}  // namespace ting
