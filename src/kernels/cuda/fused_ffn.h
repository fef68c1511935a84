// src/kernels/cuda/fused_ffn.h
// SPDX-License-Identifier: Apache-2.0
//
// feed_forward (kernels/feed_forward.h) in one kernel for Hopper; the hidden units never leave the chip.
//   f = W2 act(W1 norm(x) + b1) + b2;  y = post(residual == 0 ? f : x + residual * f)
// Shapes      x, y f32 [M, 256]; w1 [F, 256], w2 [256, F] of `type`, row-major; b1 [F], b2 [256], norms [256] f32
// Lengths     rows >= *num_rows (on the device; null: M) are not written and may hold anything
// Numerics    norm(x) and the hidden units are rounded to `type` once each, every sum and the norms are f32
// Aliasing    y must not be x.   Alignment  16 bytes for every pointer
// Execution   asynchronous on stream, one launch, no workspace, safe under graph capture
// Determinism bits of a row depend on `split` alone: not on M, on the other rows or on the other fields of FfnConfig
// Reference   kernels/ref/feed_forward.cc
// Tests       tests/kernels/cuda/fused_ffn_test.cc     Bench  tests/kernels/cuda/fused_ffn_bench.cc
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/params.h"
#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

// Device pointers; they must outlive the FusedFfn made of them.
struct FusedFfnWeights {
  DType type = DType::kF16;  // or kBF16
  int64_t D = 0, F = 0;
  const void* w1 = nullptr;   // [F, D]
  const void* w2 = nullptr;   // [D, F]
  const float* b1 = nullptr;  // may be null, as all below
  const float* b2 = nullptr;
  const float* norm_gamma = nullptr;  // null: no norm
  const float* norm_beta = nullptr;
  const float* post_gamma = nullptr;  // null: no post
  const float* post_beta = nullptr;
  float norm_eps = 1e-5F, post_eps = 1e-5F;
  Activation activation = Activation::kSwish;  // swish, relu or gelu
  float residual = 0;
};

// How the work is cut. A block computes tile_rows rows with F / split of the hidden units, in whole units of 128 (64,
// if F is no multiple of 128); `split` blocks of a cluster add their sums (of 64 rows and two slices, the two halves of
// a block); `sharing` row tiles of a cluster receive each weight once, by multicast.
inline constexpr int kFfnTileRows[] = {32, 40, 48, 64, 80, 128};
struct FfnConfig {
  int tile_rows = 64;  // of kFfnTileRows; but for 128, F must be a multiple of 128, and a slice fit into shared memory
  int split = 8;       // 1 of 80 and 128 rows, 2 to 16 of all but 80; at most the units, with split * sharing <= 16
  int sharing = 1;     // 1; 2 or 4 with 128 rows
};

class FusedFfn {
 public:
  // OK, or why another kernel must run: the shape, or the current GPU.
  static Status Supports(const FusedFfnWeights& weights);
  // OK, or why a layer with F hidden units cannot be cut so.
  static Status SupportsConfig(const FfnConfig& config, int64_t F);
  // The cut for at most M rows of a layer with F hidden units; of all, or of those of one split.
  static FfnConfig ChooseConfig(int64_t M, int64_t F);
  static FfnConfig ChooseConfigOfSplit(int64_t M, int64_t F, int split);
  static Result<FusedFfn> Create(const FusedFfnWeights& weights);

  // `dependent`: programmatic dependent launch after the kernel before on the stream, whose outputs may be x and
  // num_rows.
  Status Run(const float* x, float* y, int64_t M, const int32_t* num_rows, const FfnConfig& config, cudaStream_t stream,
             bool dependent) const;

 private:
  FusedFfn() = default;
  FusedFfnWeights weights_;
  CUtensorMap w1_map_, w2_map_;      // boxes of 64 x 64
  CUtensorMap w1_pairs_, w2_pairs_;  // of two side by side, for narrow tiles
  CUtensorMap w2_columns_;           // of 128 x 64, for two slices in one block
};

}  // namespace ting::cuda
