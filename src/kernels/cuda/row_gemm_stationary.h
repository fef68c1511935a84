// src/kernels/cuda/row_gemm_stationary.h
// SPDX-License-Identifier: Apache-2.0
//
// Between row_gemm.cc and the weight-stationary form of row_gemm (row_gemm_stationary.cuh): how its blocks are cut, and
// where things lie in their shared memory.
#pragma once

#include "kernels/cuda/row_gemm_kernel.h"

namespace ting::cuda::stationary {

inline constexpr int kGroups = 4;   // warpgroups that multiply; RowGemmConfig::groups of this form
inline constexpr int kGroupN = 64;  // columns of each, rows of wgmma's first operand
inline constexpr int kBlockN = kGroups * kGroupN;
inline constexpr int kK = 256;
inline constexpr int kHeldK = 128;    // of which a thread holds its part of W in registers; there are 80
inline constexpr int kTileRows = 32;  // that are multiplied at once
inline constexpr int kUnitRows = 16;  // of f32 rows on their way
inline constexpr int kRowGroups = 2;  // warpgroups that prepare rows, each every other unit
inline constexpr int kColumnThreads = kGroups * 128;
inline constexpr int kThreads = kColumnThreads + kRowGroups * 128;
inline constexpr int kFloatThreads = kColumnThreads + 64;  // f32 results: a warp for A, one for the residual

inline constexpr int kWeightTileBytes = kGroupN * 128;  // 64 of K, of a group
inline constexpr int kWeightBytes = kBlockN * kK * 2, kHeldBytes = kBlockN * kHeldK * 2;
inline constexpr int kTileBytes = kTileRows * kK * 2;
inline constexpr int kPitch = kK + 4;  // floats from row to row of a unit
inline constexpr int kUnitBytes = kUnitRows * kPitch * 4;
inline constexpr int kStagingBytes = kTileRows * 128;  // of 16-bit results, two for each group

// Shared memory of 16-bit results: W, of which the part that its warpgroups soon hold in registers is left to staged
// results and units, then tiles of A, the units that need not wait for that, gamma and beta, barriers.
struct Shared {
  static constexpr int kTiles = 2;
  static constexpr int kFirstUnits = 3;
  static constexpr int kStaging = 2 * kGroups * kStagingBytes;
  static constexpr int kUnits = kFirstUnits + (kHeldBytes - kStaging) / kUnitBytes;
  static constexpr int kA = kWeightBytes;
  static constexpr int kUnit0 = kA + kTiles * kTileBytes;
  static constexpr int kGamma = kUnit0 + kFirstUnits * kUnitBytes;
  static constexpr int kBarriers = kGamma + 2 * kK * 4;
  static constexpr int kNumBarriers = kGroups + 2 * kTiles + 5 * kUnits + 2;
  static constexpr int kBytes = 1024 + kBarriers + 8 * kNumBarriers;
  static_assert(kBytes <= 227 << 10);
};
static_assert(Shared::kUnits % kRowGroups == 0, "a unit's place belongs to one warpgroup");

// Of f32 results: W, of which that part is left to the residual, tiles of A, the part of the residual that need
// not wait for that, barriers.
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
