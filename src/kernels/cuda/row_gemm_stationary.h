// src/kernels/cuda/row_gemm_stationary.h
// SPDX-License-Identifier: Apache-2.0
//
// Between row_gemm.cc and the weight-stationary form of row_gemm (row_gemm_stationary.cuh): how its blocks are cut, and
// where things lie in their shared memory.
#pragma once

#include "kernels/cuda/row_gemm_kernel.h"

namespace ting::cuda::stationary {

inline constexpr int kGroups = 4;  // warpgroups; RowGemmConfig::groups of this form
inline constexpr int kGroupN = 64;
inline constexpr int kBlockN = kGroups * kGroupN;
inline constexpr int kK = 256;
inline constexpr int kWeightBytes = kBlockN * kK * 2;

// 16-bit results: half of the block's warps normalise f32 rows, the others multiply, each warpgroup half of the
// columns.
inline constexpr int kHalfTileRows = 64;  // RowGemmConfig::rows at most
inline constexpr int kHalfN = kBlockN / 2;
inline constexpr int kWarpRows = 8;  // of a tile, that a warp normalises
inline constexpr int kRowWarps = kHalfTileRows / kWarpRows, kColumnWarps = 8;
inline constexpr int kHalfThreads = 32 * (kColumnWarps + kRowWarps);

// Their shared memory: W, tiles of A, staged results, gamma and beta, bias, barriers.
struct SharedHalf {
  static constexpr int kPlaces = 2, kPlaceBytes = kHalfTileRows * kK * 2;
  static constexpr int kA = kWeightBytes;
  static constexpr int kStaging = kA + kPlaces * kPlaceBytes;
  static constexpr int kGamma = kStaging + kColumnWarps * kRowGemmStaging;
  static constexpr int kBias = kGamma + 2 * kK * 4;
  static constexpr int kBarriers = kBias + kBlockN * 4;
  static constexpr int kNumBarriers = kK / 64 + 2 * kPlaces + 1;
  static constexpr int kBytes = 1024 + kBarriers + 8 * kNumBarriers;
  static_assert(kBytes <= 227 << 10);
};

// f32 results: the warpgroups multiply, each 64 columns, the rows of wgmma's first operand.
inline constexpr int kHeldK = 128;    // of which a thread holds its part of W in registers
inline constexpr int kTileRows = 32;  // that are multiplied at once
inline constexpr int kColumnThreads = kGroups * 128;
inline constexpr int kFloatThreads = kColumnThreads + 64;  // a warp for A, one for the residual
inline constexpr int kHeldBytes = kBlockN * kHeldK * 2;
inline constexpr int kTileBytes = kTileRows * kK * 2;

// Their shared memory: W, of which the part that its warpgroups soon hold in registers is left to the residual, tiles
// of A, the part of the residual that need not wait for that, barriers.
struct SharedFloat {
  static constexpr int kTiles = 3, kResidualBytes = kTileRows * kBlockN * 4;
  static constexpr int kFirstResiduals = 1, kResiduals = kFirstResiduals + kHeldBytes / kResidualBytes;
  static constexpr int kA = kWeightBytes;
  static constexpr int kResidual = kA + kTiles * kTileBytes;
  static constexpr int kBarriers = kResidual + kFirstResiduals * kResidualBytes;
  static constexpr int kNumBarriers = kK / 64 + 2 * kTiles + 2 * kResiduals + 1;
  static constexpr int kBytes = 1024 + kBarriers + 8 * kNumBarriers;
  static_assert(kBytes <= 227 << 10);
};

template <typename T>
RowGemmKernelFunction FindKernel(RowGemmOutput output);

}  // namespace ting::cuda::stationary
