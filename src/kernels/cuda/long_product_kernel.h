// src/kernels/cuda/long_product_kernel.h
// SPDX-License-Identifier: Apache-2.0
//
// Between long_product.cc (checks, choice, launch) and long_product.cu (the kernels).
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/long_product.h"

namespace ting::cuda::longk {

struct Parameters {
  CUtensorMap x, w;
  const float* bias;
  float* y;
  const int32_t* num_rows;
  int64_t y_stride;
  int M, K;
  int split;
  float scale;
};

using Function = void (*)(Parameters);

// Two rings of boxes, of x and of W, each filled by a warp of its own. A box is a tile of 64 of K, or two of x: 16 or
// 32 KB, so that issuing it takes less time than bringing it. Later the sums lie where the rings were.
template <int kGroups, int kColumns>
struct Layout {
  static constexpr int kRows = 64 * kGroups;
  static constexpr int kConsumers = 128 * kGroups, kThreads = kConsumers + 64;
  static constexpr int kTilesX = 128 / kRows;  // of a box
  static constexpr int kBoxX = kTilesX * kRows * 128, kBoxW = kColumns * 128;
  static constexpr int kStagesX = (96 << 10) / kBoxX, kStagesW = (128 << 10) / kBoxW;
  static constexpr int kW = kStagesX * kBoxX, kBarriers = kW + kStagesW * kBoxW;
  static constexpr int kBytes = 1024 + kBarriers + 2 * (kStagesX + kStagesW) * 8;
  static_assert(kRows * kColumns * 4 <= kBarriers && kBytes <= 227 << 10);
};

// The kernel for a configuration, or nullptr.
Function FindKernel(DType type, const LongProductConfig& config);

}  // namespace ting::cuda::longk
