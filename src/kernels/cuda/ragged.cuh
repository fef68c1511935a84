// src/kernels/cuda/ragged.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Packed rows and their sequences (tensor/row_set.h) on the device.
#pragma once

#include <cstdint>

namespace ting::cuda {

// The sequence that row `row` of [0, offsets[B]) belongs to.
__device__ inline int SequenceOfRow(const int32_t* offsets, int B, int row) {
  int low = 0, high = B;  // offsets[low] <= row < offsets[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (offsets[middle] <= row ? low : high) = middle;
  }
  return low;
}

}  // namespace ting::cuda
