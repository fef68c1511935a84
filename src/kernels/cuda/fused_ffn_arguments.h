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
// Tiles of less than 128 rows, whose products are transposed.
constexpr bool IsNarrow(int tile_rows) { return tile_rows != 2 * kGroupRows; }
constexpr int StageBoxes(int tile_rows) { return IsNarrow(tile_rows) ? 2 : 4; }
constexpr int StageBytes(int tile_rows) { return StageBoxes(tile_rows) * kBoxBytes; }
inline constexpr int kBarrierBytes = 1024;  // also keeps what follows aligned
inline constexpr int kMaxStages = 12;
// Floats from row to row of the partial sums of 128-row tiles, so that what half a warp stores, 4 rows of 8 floats,
// falls into different banks. Those of narrower tiles are halves [rows][kHalfD], in which column c of row r lies at
// c ^ HalfSwizzle(r), for what a warp stores is 8 columns of 4 even rows.
inline constexpr int kPartialStride = kD + 8;
inline constexpr int kHalfD = kD / 2;
constexpr int HalfSwizzle(int row) { return row / 2 % 4 * 8; }
inline constexpr int kConsumers = 256;  // two warpgroups
inline constexpr int kWarps = kConsumers / 32;

inline constexpr int kThreads = kConsumers + 128;  // and the producer: a warpgroup, whose registers the others get

// Where things lie in shared memory, in bytes: barriers | X | hidden units | ring | received | vectors. At the end the
// partial sums of 128-row tiles take the place of all between. Those of narrow tiles are sent in halves: the first half
// takes the place of X and is received where it says; the second half, and what is received of it, that of the ring.
struct SharedLayout {
  int hidden, ring, received, vectors, bytes;
};

struct Arguments {
  CUtensorMap w1, w2;
  const float *b1, *b2, *norm_gamma, *norm_beta, *post_gamma, *post_beta;
  const float* x;
  float* y;
  const int32_t* num_rows;
  float norm_eps, post_eps, residual;
  int rows, stages, split, sharing;
  int units, unit_chunks;  // slices are of whole units of that many chunks each
  int split_inverse;       // InverseOf(split)
  SharedLayout layout;
};

// x / divisor is DivideBy(x, InverseOf(divisor)), for x * divisor < 2^16: a kernel's integer division is a hundred
// clocks.
constexpr int InverseOf(int divisor) { return 65536 / divisor + 1; }
constexpr int DivideBy(int x, int inverse) { return x * inverse >> 16; }

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

// Rows of a tile that a block finishes, at most.
constexpr int OwnRows(int tile_rows, int split) { return (tile_rows + split - 1) / split; }
constexpr int BoxRows(int tile_rows) { return IsNarrow(tile_rows) ? tile_rows : kGroupRows; }

// Bytes of half of the sums of a tile, and of what a block receives of them.
constexpr int HalfBytes(int tile_rows) { return tile_rows * kHalfD * 4; }
constexpr int ReceivedBytes(int tile_rows, int split) { return OwnRows(tile_rows, split) * (split - 1) * kHalfD * 4; }

constexpr SharedLayout LayoutOf(int tile_rows, int stages, int slice_chunks, int split) {
  const bool narrow = IsNarrow(tile_rows);
  SharedLayout layout{};
  layout.hidden = kBarrierBytes + tile_rows * kD * 2;
  layout.ring = layout.hidden + (narrow ? tile_rows * slice_chunks * kChunk * 2 : 0);
  layout.received = layout.ring + stages * StageBytes(tile_rows);
  layout.vectors = layout.received + (narrow ? ReceivedBytes(tile_rows, split) : 0);
  const int partial_end = kBarrierBytes + tile_rows * kPartialStride * 4;
  if (!narrow && layout.vectors < partial_end) layout.vectors = partial_end;
  layout.bytes = layout.vectors + (kB1 + slice_chunks * kChunk) * 4;
  return layout;
}

using Kernel = void (*)(Arguments);
Kernel FindKernel(FfnType type, Activation activation, int tile_rows);
Kernel FindNarrowKernel(FfnType type, Activation activation, int tile_rows);

}  // namespace ting::cuda::ffn
