// src/kernels/cuda/row_gemm_instances.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Which kernels of row_gemm exist.
#pragma once

#include "kernels/cuda/row_gemm_kernel.cuh"

namespace ting::cuda {

template <typename T, int kTileN, int kGroups>
RowGemmKernelFunction OfTile(RowGemmOutput output, RowGemmMode mode) {
  const bool half = output == RowGemmOutput::kHalf;
  if (output == RowGemmOutput::kGlu) {
    if constexpr (kTileN >= 64) {
      if (mode == RowGemmMode::kResident) {
        return RowGemmKernel<T, kTileN, kGroups, RowGemmMode::kResident, RowGemmOutput::kGlu>;
      }
    }
    return nullptr;
  }
  switch (mode) {
    case RowGemmMode::kResident:
      return half ? RowGemmKernel<T, kTileN, kGroups, RowGemmMode::kResident, RowGemmOutput::kHalf>
                  : RowGemmKernel<T, kTileN, kGroups, RowGemmMode::kResident, RowGemmOutput::kFloat>;
    case RowGemmMode::kStream:
      return half ? RowGemmKernel<T, kTileN, kGroups, RowGemmMode::kStream, RowGemmOutput::kHalf>
                  : RowGemmKernel<T, kTileN, kGroups, RowGemmMode::kStream, RowGemmOutput::kFloat>;
    case RowGemmMode::kSplit:
      return half ? RowGemmKernel<T, kTileN, kGroups, RowGemmMode::kSplit, RowGemmOutput::kHalf>
                  : RowGemmKernel<T, kTileN, kGroups, RowGemmMode::kSplit, RowGemmOutput::kFloat>;
  }
  return nullptr;
}

template <typename T>
RowGemmKernelFunction FindRowGemmKernel(const RowGemmConfig& config, RowGemmOutput output, RowGemmMode mode) {
  if (config.groups == 1 && config.tile_n == 32) return OfTile<T, 32, 1>(output, mode);
  if (config.groups == 1 && config.tile_n == 64) return OfTile<T, 64, 1>(output, mode);
  if (config.groups == 1 && config.tile_n == 128) return OfTile<T, 128, 1>(output, mode);
  if (config.groups == 2 && config.tile_n == 128) return OfTile<T, 128, 2>(output, mode);
  return nullptr;
}

}  // namespace ting::cuda
