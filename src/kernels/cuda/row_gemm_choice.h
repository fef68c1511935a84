// src/kernels/cuda/row_gemm_choice.h
// SPDX-License-Identifier: Apache-2.0
//
// Between row_gemm.cc (checks, launch) and row_gemm_choice.cc (how a product is cut).
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_gemm.h"
#include "kernels/cuda/row_gemm_stationary.h"

namespace ting::cuda {

inline constexpr int64_t kMaxRows = int64_t{1} << 22;
inline constexpr int kMaxColumnsPerBlock = 8192;  // whose bias fits beside the tiles

inline bool IsStationary(const RowGemmConfig& config) { return config.groups == stationary::kGroups; }

// Whether four floats of y and of the residual may be accessed at once.
bool ByFours(const RowGemmArguments& arguments);
// Whether the weight-stationary form takes these arguments, cut so.
bool SupportsStationary(const RowGemmArguments& arguments, const RowGemmConfig& config);

}  // namespace ting::cuda
