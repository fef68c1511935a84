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
inline constexpr int kBarrierBytes = 1024;  // also keeps what follows aligned
// Floats from row to row of the partial sums, so that what half a warp stores, 4 rows of 8 floats, falls into different
// banks. Those of 32-row tiles are two halves [32][kHalfD], in which column c of row r lies at c ^ HalfSwizzle(r), for
// what a warp stores is 8 columns of 4 even rows.
inline constexpr int kPartialStride = kD + 8;
inline constexpr int kHalfD = kD / 2;
constexpr int HalfSwizzle(int row) { return row / 2 % 4 * 8; }
inline constexpr int kConsumers = 256;  // two warpgroups

inline constexpr int kThreads = kConsumers + 128;  // and the producer: a warpgroup, whose registers the others get

struct Arguments {
  CUtensorMap w1, w2;  // w1 of 32-row tiles: MakePairedRowsMap
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

// Rows of a tile that a block finishes, at most: every split-th.
constexpr int OwnRows(int tile_rows, int split) { return (tile_rows + split - 1) / split; }
constexpr int BoxRows(int tile_rows) { return tile_rows < kGroupRows ? tile_rows : kGroupRows; }

// Shared memory: barriers | X | hidden units, where two warpgroups share them | ring | vectors. At the end the partial
// sums take the place of all between. 32-row tiles send and receive sums while they multiply: the first half takes the
// place of X; the second half, before the ring, and the sums received, behind it, have their own.
struct SharedLayout {
  int hidden, second_half, ring, received, vectors, bytes;
};
constexpr SharedLayout LayoutOf(int tile_rows, int stages, int slice_chunks, int split) {
  SharedLayout layout{};
  layout.hidden = kBarrierBytes + tile_rows * kD * 2;
  layout.second_half = layout.hidden + (tile_rows == 128 ? 0 : tile_rows * 2 * kChunk * 2);
  layout.ring = layout.second_half + (tile_rows == 32 ? tile_rows * kHalfD * 4 : 0);
  layout.received = layout.ring + stages * kStageBytes;
  layout.vectors = layout.received;
  if (tile_rows == 32) {
    layout.vectors += OwnRows(tile_rows, split) * (split - 1) * kD * 4;
  } else {
    const int partial_end = kBarrierBytes + tile_rows * kPartialStride * 4;
    if (layout.vectors < partial_end) layout.vectors = partial_end;
  }
  layout.bytes = layout.vectors + (kB1 + slice_chunks * kChunk) * 4;
  return layout;
}

using Kernel = void (*)(Arguments);
Kernel FindKernel(FfnType type, Activation activation, int tile_rows);

}  // namespace ting::cuda::ffn
