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
// How a tile is computed, each by a kernel of its own.
enum class Form {
  kWide,     // 128 rows: fused_ffn_wide.cu
  kPaired,   // 64 rows and two slices, both in one block: fused_ffn_paired.cu
  kSplit,    // narrow, of less than 128 rows, and two slices or more: fused_ffn_split.cu
  kUnsplit,  // narrow, and one slice: fused_ffn_unsplit.cu
};
inline constexpr int kUnsplitRows = 80;
constexpr Form FormOf(int tile_rows, int split) {
  if (tile_rows == 2 * kGroupRows) return Form::kWide;
  if (tile_rows == kUnsplitRows) return Form::kUnsplit;
  return tile_rows == kGroupRows && split == 2 ? Form::kPaired : Form::kSplit;
}
constexpr int StageBoxes(Form form) { return form == Form::kWide ? 4 : 2; }
constexpr int StageBytes(Form form) { return StageBoxes(form) * kBoxBytes; }
inline constexpr int kBarrierBytes = 1024;  // also keeps what follows aligned
inline constexpr int kMaxStages = 12;
// Floats from row to row of the partial sums of 128-row tiles, so that what half a warp stores, 4 rows of 8 floats,
// falls into different banks. In those of narrow tiles column c of row r lies at c ^ HalfSwizzle(r), for what a warp
// stores is 8 columns of 4 even rows; of split ones they are halves [rows][kHalfD].
inline constexpr int kPartialStride = kD + 8;
inline constexpr int kHalfD = kD / 2;
constexpr int HalfSwizzle(int row) { return row / 2 % 4 * 8; }
inline constexpr int kConsumers = 256;  // two warpgroups
inline constexpr int kWarps = kConsumers / 32;

inline constexpr int kThreads = kConsumers + 128;  // and the producer: a warpgroup, whose registers the others get

// Where things lie in shared memory, in bytes: barriers | X | hidden units | ring | received | vectors. At the end sums
// begin in the place of X. Those of split tiles are sent in halves: the first half takes the place of X and is received
// where it says; the second half, and what is received of it, that of the ring.
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
constexpr int BoxRows(int tile_rows) { return tile_rows == 2 * kGroupRows ? kGroupRows : tile_rows; }

// Bytes of half of the sums of a tile, and of what a block receives of them.
constexpr int HalfBytes(int tile_rows) { return tile_rows * kHalfD * 4; }
constexpr int ReceivedBytes(int tile_rows, int split) { return OwnRows(tile_rows, split) * (split - 1) * kHalfD * 4; }

// Hidden units that lie in shared memory: all of a slice, or two units of a tile that is not split; others stay in
// registers.
constexpr int HiddenChunks(Form form, int slice_chunks) {
  if (form == Form::kSplit) return slice_chunks;
  return form != Form::kUnsplit ? 0 : slice_chunks < 4 ? slice_chunks : 4;
}
// Bytes of the sums that a block stores.
constexpr int SumsBytes(Form form, int tile_rows) {
  switch (form) {
    case Form::kWide:
      return tile_rows * kPartialStride * 4;
    case Form::kPaired:
      return 2 * tile_rows * kD * 4;
    case Form::kUnsplit:
      return tile_rows * kD * 4;
    default:
      return 0;  // halves in the place of X and in that of the ring
  }
}

constexpr SharedLayout LayoutOf(int tile_rows, int stages, int slice_chunks, int split) {
  const Form form = FormOf(tile_rows, split);
  SharedLayout layout{};
  layout.hidden = kBarrierBytes + tile_rows * kD * 2;
  layout.ring = layout.hidden + tile_rows * HiddenChunks(form, slice_chunks) * kChunk * 2;
  layout.received = layout.ring + stages * StageBytes(form);
  layout.vectors = layout.received + (form == Form::kSplit ? ReceivedBytes(tile_rows, split) : 0);
  const int sums_end = kBarrierBytes + SumsBytes(form, tile_rows);
  if (layout.vectors < sums_end) layout.vectors = sums_end;
  const int vector_chunks = form == Form::kPaired ? 2 * slice_chunks : slice_chunks;
  layout.bytes = layout.vectors + (kB1 + vector_chunks * kChunk) * 4;
  return layout;
}

using Kernel = void (*)(Arguments);
Kernel FindKernel(DType type, Activation activation, int tile_rows, int split);
// Of one form each.
Kernel FindWideKernel(DType type, Activation activation);
Kernel FindPairedKernel(DType type, Activation activation);
Kernel FindSplitKernel(DType type, Activation activation, int tile_rows);
Kernel FindUnsplitKernel(DType type, Activation activation);

}  // namespace ting::cuda::ffn
