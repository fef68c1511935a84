// src/kernels/cuda/fused_ffn_arguments.h
// SPDX-License-Identifier: Apache-2.0
//
// What the two sides of fused_ffn.h agree on: the kernel's arguments and where things lie in shared memory. Apart from
// the kernel, because nvcc cannot compile the host side (consteval format strings of fmt).
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/fused_ffn.h"

namespace ting::cuda::ffn {

inline constexpr int kD = 256;
inline constexpr int kGroupRows = 64;
inline constexpr int kChunk = 64;
inline constexpr int kBoxBytes = 64 * 128;  // a box of 64 x 64
inline constexpr int kStageBoxes = 4;
inline constexpr int kStageBytes = kStageBoxes * kBoxBytes;  // W1c as [4][64 units, 64], W2c as [4][64 outputs, 64]
inline constexpr int kMaxStages = 8;
inline constexpr int kBarrierBytes = 1024;     // also keeps what follows aligned
inline constexpr int kPartialStride = kD + 8;  // floats: the 4 rows of a half warp's stores start 8 banks apart

// Consumers and producer: one warp, or a warpgroup where registers change hands.
constexpr int ThreadsFor(int groups) { return 128 * groups + (groups == 1 ? 32 : 128); }

struct Arguments {
  CUtensorMap w1, w2;
  const float *b1, *b2, *norm_gamma, *norm_beta, *post_gamma, *post_beta;
  const float* x;
  float* y;
  const int32_t* num_rows;
  float norm_eps, post_eps, residual;
  int rows, chunks, stages, split, sharing;  // chunks: of a slice
};

// Shared memory: barriers | X, 32 KB a group | ring | b1 of the slice; at the end the partial sums take the place of X.
struct SharedLayout {
  int ring, bias, bytes;
};
constexpr SharedLayout LayoutOf(int groups, int stages, int chunks) {
  SharedLayout layout{};
  layout.ring = kBarrierBytes + groups * kGroupRows * kD * 2;
  layout.bias = layout.ring + stages * kStageBytes;
  layout.bytes = layout.bias + chunks * kChunk * 4;
  const int partial_end = kBarrierBytes + groups * kGroupRows * kPartialStride * 4;
  if (layout.bytes < partial_end) layout.bytes = partial_end;
  return layout;
}

using Kernel = void (*)(Arguments);
Kernel FindKernel(FfnType type, Activation activation, int row_groups);

}  // namespace ting::cuda::ffn
