// src/kernels/cuda/row_gemm_kernel.h
// SPDX-License-Identifier: Apache-2.0
//
// Between row_gemm.cc (checks, choice, launch) and row_gemm_f16.cu, row_gemm_bf16.cu (the kernels, one type a file, to
// be compiled side by side).
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/row_gemm.h"

namespace ting::cuda {

inline constexpr int kRowGemmMaxStages = 16;   // of a ring
inline constexpr int kRowGemmStaging = 2048;   // bytes a warp of consumers stages its results in
inline constexpr int kRowGemmResidentK = 512;  // up to here a block keeps its rows of A in shared memory

struct RowGemmParameters {
  CUtensorMap a;  // unused with x_f32
  CUtensorMap w;
  const float* x_f32;
  const float* gamma;
  const float* beta;
  const float* bias;
  const float* residual;
  void* y;
  const int32_t* num_rows;
  RowGemmScatter scatter;
  int64_t x_stride, y_stride, residual_stride;
  int M, N, K;
  int rows;  // of a block
  int tiles_per_block;
  int segments_log2;
  int share;
  int stages;  // of a ring
  float eps;
  float scale;
  Activation activation;
  bool starts_next;
  bool fours;                  // four floats of y and of the residual may be accessed at once
  CUtensorMap residual_tiles;  // of the weight-stationary form, in tiles of 32 columns
};

// Where A lies and who sums: see row_gemm_kernel.cuh.
enum class RowGemmMode { kResident, kStream, kSplit };

using RowGemmKernelFunction = void (*)(RowGemmParameters);

// The kernel for a configuration, or nullptr if there is none.
template <typename T>
RowGemmKernelFunction FindRowGemmKernel(const RowGemmConfig& config, RowGemmOutput output, RowGemmMode mode);

// Warpgroups that take the tiles of a block in turn, each with a ring of its own; otherwise each has rows of its own.
constexpr int RowGemmTurns(const RowGemmConfig& config, int64_t K) {
  return K <= kRowGemmResidentK ? config.groups : 1;
}
constexpr int RowGemmRows(const RowGemmConfig& config, int64_t K) {
  return K <= kRowGemmResidentK ? config.rows : 64 * config.groups;
}
constexpr int RowGemmThreads(int groups, bool resident) { return groups == 1 ? 160 : resident ? 288 : 384; }
// Blocks of a multiprocessor for which the kernels leave registers.
constexpr int RowGemmBlocks(int groups, int tile_n, RowGemmMode mode) {
  if (mode == RowGemmMode::kResident) return groups == 2 && tile_n == 128 ? 1 : 2;
  return groups == 2 || (tile_n == 128 && mode == RowGemmMode::kStream) ? 1 : 2;
}

// Dynamic shared memory in the order of the kernel: [A, resident], rings of stages, results, gamma and beta, bias,
// barriers. A stage: W's tile, then (not resident) A's.
struct RowGemmShared {
  uint32_t a_bytes, stage_bytes, total_bytes;
};
constexpr RowGemmShared RowGemmSharedLayout(const RowGemmConfig& config, int64_t K, int stages) {
  const bool resident = K <= kRowGemmResidentK;
  const auto k = static_cast<uint32_t>(K);
  RowGemmShared layout{};
  layout.a_bytes = resident ? 128 * k : 0;
  layout.stage_bytes = static_cast<uint32_t>(config.tile_n * 128 + (resident ? 0 : config.groups * 64 * 128));
  const auto rings = static_cast<uint32_t>(RowGemmTurns(config, K) * stages) * layout.stage_bytes;
  const auto staging = static_cast<uint32_t>(config.split > 1 ? 0 : config.groups * 4 * kRowGemmStaging);
  const auto vectors = (resident ? 8 * k : 0) + static_cast<uint32_t>(config.tiles_per_block * config.tile_n * 4);
  const uint32_t barriers = (2 * 2 * kRowGemmMaxStages + kRowGemmResidentK / 64 + 1) * 8;
  layout.total_bytes = 1024 + layout.a_bytes + rings + staging + vectors + barriers;
  return layout;
}

}  // namespace ting::cuda
