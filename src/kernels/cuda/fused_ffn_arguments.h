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
inline constexpr int kChunk = 64;           // hidden units
inline constexpr int kBoxBytes = 64 * 128;  // a box of 64 x 64
inline constexpr int kStageBoxes = 4;
inline constexpr int kStageBytes = kStageBoxes * kBoxBytes;
inline constexpr int kMaxStages = 8;
inline constexpr int kBarrierBytes = 1024;     // also keeps what follows aligned
inline constexpr int kPartialStride = kD + 8;  // floats: the 4 rows of a half warp's stores start 8 banks apart
inline constexpr int kConsumers = 256;         // two warpgroups

inline constexpr int kThreads = kConsumers + 128;  // and the producer: a warpgroup, whose registers the others get

struct Arguments {
  CUtensorMap w1, w2;
  const float *b1, *b2, *norm_gamma, *norm_beta, *post_gamma, *post_beta;
  const float* x;
  float* y;
  const int32_t* num_rows;
  float norm_eps, post_eps, residual;
  int rows, stages, split, sharing;
  int units, unit_chunks;  // slices are of whole units of that many chunks each
};

// Units of 128 hidden units where that is possible, in every kernel: the slices must be the same in all of them.
constexpr int UnitChunks(int64_t F) { return F % (2 * kChunk) == 0 ? 2 : 1; }
// Of the longest slice.
constexpr int SliceChunks(int units, int unit_chunks, int split) { return (units + split - 1) / split * unit_chunks; }

// f32 vectors in shared memory, in floats from SharedLayout::vectors.
enum VectorOffset {
  kGamma = 0,
  kBeta = kD,
  kB2 = 2 * kD,
  kPostGamma = 3 * kD,
  kPostBeta = 4 * kD,
  kB1 = 5 * kD  // b1 of the slice
};

// Shared memory: barriers | X, 32 KB a row group | hidden units, where two warpgroups share them | ring | vectors. At
// the end the partial sums take the place of all before the vectors.
struct SharedLayout {
  int hidden, ring, vectors, bytes;
};
constexpr SharedLayout LayoutOf(int row_groups, int stages, int slice_chunks) {
  SharedLayout layout{};
  layout.hidden = kBarrierBytes + row_groups * kGroupRows * kD * 2;
  layout.ring = layout.hidden + (row_groups == 1 ? kGroupRows * 2 * kChunk * 2 : 0);
  layout.vectors = layout.ring + stages * kStageBytes;
  const int partial_end = kBarrierBytes + row_groups * kGroupRows * kPartialStride * 4;
  if (layout.vectors < partial_end) layout.vectors = partial_end;
  layout.bytes = layout.vectors + (kB1 + slice_chunks * kChunk) * 4;
  return layout;
}

using Kernel = void (*)(Arguments);
Kernel FindKernel(FfnType type, Activation activation, int row_groups);

}  // namespace ting::cuda::ffn
