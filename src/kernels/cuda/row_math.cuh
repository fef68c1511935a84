// src/kernels/cuda/row_math.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Parts of the row kernels: moments of a row, the sequence that a row belongs to, dispatch by storage type.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

// LayerNorm of a row that the lanes of a warp hold in `values(i)`, i = lane, lane + 32, …: mean, then the squares
// around it. Returns (mean, 1 / deviation).
template <typename Values>
__device__ inline float2 RowMoments(const Values& values, int D, float eps) {
  const int lane = threadIdx.x % 32;
  float sum = 0;
  for (int i = lane; i < D; i += 32) sum += values(i);
  const float mean = WarpSum(sum) / static_cast<float>(D);
  float squares = 0;
  for (int i = lane; i < D; i += 32) squares += (values(i) - mean) * (values(i) - mean);
  return {mean, rsqrtf(WarpSum(squares) / static_cast<float>(D) + eps)};
}

// The sequence that `row` belongs to: the last one that begins at or before it (empty ones begin there, too).
__device__ inline int SequenceOf(const int32_t* offsets, int sequences, int64_t row) {
  int low = 0, high = sequences;  // offsets[low] <= row < offsets[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (offsets[middle] <= row ? low : high) = middle;
  }
  return low;
}

// Calls body(T{}) with the storage type.
template <typename Body>
Status WithType(DType type, Body&& body) {
  switch (type) {
    case DType::kF16:
      return body(__half{});
    case DType::kBF16:
      return body(__nv_bfloat16{});
    case DType::kF32:
      return body(float{});
    default:
      return Status(StatusCode::kInternal, "a storage type that no CUDA kernel has");
  }
}

}  // namespace ting::cuda
