// src/kernels/cuda/row_gemm_instances.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Which kernels of row_gemm exist.
#pragma once

#include "kernels/cuda/row_gemm_kernel.cuh"

namespace ting::cuda {

template <typename T, int kTileN, int kGroups, RowGemmMode kMode>
RowGemmKernelFunction OfOutput(RowGemmOutput output) {
  if (output == RowGemmOutput::kHalf) return RowGemmKernel<T, kTileN, kGroups, kMode, RowGemmOutput::kHalf>;
  if (output == RowGemmOutput::kFloat) return RowGemmKernel<T, kTileN, kGroups, kMode, RowGemmOutput::kFloat>;
  if constexpr (kMode == RowGemmMode::kResident && kTileN >= 64) {
    return RowGemmKernel<T, kTileN, kGroups, kMode, RowGemmOutput::kGlu>;
  }
  return nullptr;
}

template <typename T, int kTileN, int kGroups>
RowGemmKernelFunction OfMode(RowGemmOutput output, RowGemmMode mode) {
  if (mode == RowGemmMode::kResident) return OfOutput<T, kTileN, kGroups, RowGemmMode::kResident>(output);
  if constexpr (kGroups == 1 || kTileN == 128) {
    if (mode == RowGemmMode::kStream) return OfOutput<T, kTileN, kGroups, RowGemmMode::kStream>(output);
    return OfOutput<T, kTileN, kGroups, RowGemmMode::kSplit>(output);
  }
  return nullptr;
}

template <typename T>
RowGemmKernelFunction FindRowGemmKernel(const RowGemmConfig& config, RowGemmOutput output, RowGemmMode mode) {
  const bool two = config.groups == 2;
  if (config.groups != 1 && !two) return nullptr;
  if (config.tile_n == 32) return two ? OfMode<T, 32, 2>(output, mode) : OfMode<T, 32, 1>(output, mode);
  if (config.tile_n == 64) return two ? OfMode<T, 64, 2>(output, mode) : OfMode<T, 64, 1>(output, mode);
  if (config.tile_n == 128) return two ? OfMode<T, 128, 2>(output, mode) : OfMode<T, 128, 1>(output, mode);
  return nullptr;
}

}  // namespace ting::cuda
