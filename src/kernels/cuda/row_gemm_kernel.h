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

inline constexpr int kRowGemmMaxStages = 16;
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
  int64_t x_stride, y_stride, residual_stride;
  int M, N, K;
  int tiles_per_block;
  int split;
  int stages;
  int segments;
  float eps;
  float scale;
  Activation activation;
  bool pairs;  // two floats of y and of the residual may be accessed at once
};

// Where A lies and who sums: see row_gemm_kernel.cuh.
enum class RowGemmMode { kResident, kStream, kSplit };

using RowGemmKernelFunction = void (*)(RowGemmParameters);

// The kernel for a configuration, or nullptr if there is none.
template <typename T>
RowGemmKernelFunction FindRowGemmKernel(const RowGemmConfig& config, RowGemmOutput output, RowGemmMode mode);

// Dynamic shared memory in the order of the kernel: [A, resident], ring of stages, bias, barriers. The ring of a stage:
// W's tile, then (not resident) A's.
struct RowGemmShared {
  uint32_t a_bytes, stage_bytes, bias_bytes, total_bytes;
};
constexpr RowGemmShared RowGemmSharedLayout(const RowGemmConfig& config, int64_t K, int stages) {
  const bool resident = K <= kRowGemmResidentK;
  RowGemmShared layout{};
  layout.a_bytes = resident ? static_cast<uint32_t>(config.groups * 64 * K * 2) : 0;
  layout.stage_bytes = static_cast<uint32_t>(config.tile_n * 128 + (resident ? 0 : config.groups * 64 * 128));
  layout.bias_bytes = static_cast<uint32_t>(config.tiles_per_block * config.tile_n * 4);
  layout.total_bytes = 1024 + layout.a_bytes + static_cast<uint32_t>(stages) * layout.stage_bytes + layout.bias_bytes +
                       2 * kRowGemmMaxStages * 8;
  return layout;
}

}  // namespace ting::cuda
