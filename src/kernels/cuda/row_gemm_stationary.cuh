// src/kernels/cuda/row_gemm_stationary.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The weight-stationary form of row_gemm, for products of K = 256: a block keeps 256 columns of W, and rows pass by in
// tiles, so that reads, norms, products and writes of different tiles overlap, in loops short enough for cold
// instruction caches. f32 rows with 16-bit results are in row_gemm_stationary_half.cuh, T rows with f32 results in
// row_gemm_stationary_float.cuh.
#pragma once

#include "kernels/cuda/row_gemm_stationary_float.cuh"
#include "kernels/cuda/row_gemm_stationary_half.cuh"

namespace ting::cuda::stationary {

template <typename T>
RowGemmKernelFunction FindKernel(RowGemmOutput output) {
  if (output == RowGemmOutput::kFloat) return FloatKernel<T>;
  return output == RowGemmOutput::kGlu ? HalfKernel<T, RowGemmOutput::kGlu> : HalfKernel<T, RowGemmOutput::kHalf>;
}

}  // namespace ting::cuda::stationary
