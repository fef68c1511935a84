// src/kernels/cuda/row_gemm.h
// SPDX-License-Identifier: Apache-2.0
//
// row_gemm: the matrix product of every linear layer on Hopper, with what stands before and after it:
//   y[M, N] = epilogue(prologue(x)[M, K] W[N, K]^T), T = f16 or bf16 operands, f32 sums, wgmma fed by the copy engine.
// Shapes     x [M, K] T, or f32 with a LayerNorm (or without: rounded to T); W [N, K] T row-major; bias [N] f32.
//            K a multiple of 64; f32 x: K = 256 or 512. N any for f32 output, else a multiple of 32 (GLU: 64).
// Outputs    kHalf   y [M, N] T = activation(acc + bias)
//            kGlu    y [M, N / 2] T = a * sigmoid(b); W and bias were interleaved at load by InterleaveGlu
//            kFloat  y [M, N] f32 = residual + scale * (acc + bias); residual may be absent
//            kHalf with `scatter`: columns from scatter.first_column on leave y alone and go to other rows of another
//            matrix
// Lengths    rows >= *num_rows (a device value; absent: M) are not written, their x may hold anything; W beyond row N
//            is not read, columns >= N are not written
// Layout     strides in elements. T matrices: 16-byte aligned data and rows. f32 x: 16 bytes. f32 y: any row stride
// Aliasing   residual may be y. x must not be y; scatter.y must not overlap them
// Numerics   the sums of an output element run over K in the order of RowGemmSegments(K) whatever the tile, the number
//            of rows or their neighbours: equal bits for equal rows (tests/kernels/cuda/row_gemm_test.cc)
// Execution  asynchronous on stream, no workspace, may be captured. `dependent`: programmatic dependent launch, weights
//            and bias are fetched before the previous kernel has ended, so no kernel of the stream may write them.
//            `starts_next`: the kernel after this one need not get ready in this one's short time, but may begin while
//            the one before still runs. For a feed-forward to come, which takes longer (conv_module.cc)
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "kernels/params.h"
#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

enum class RowGemmOutput { kHalf, kGlu, kFloat };

// Where the last columns of the product go: row r, column n to y[rows[r]][n - first_column].
struct RowGemmScatter {
  const int32_t* rows = nullptr;  // [M], each one once; absent: no such columns
  void* y = nullptr;              // T, 16-byte aligned as its rows are
  int64_t stride = 0;
  int64_t first_column = 0;  // a multiple of 128; K <= 512
};

struct RowGemmArguments {
  DType type = DType::kF16;  // or kBF16
  int64_t M = 0, N = 0, K = 0;
  const int32_t* num_rows = nullptr;

  const void* x = nullptr;  // T
  int64_t x_stride = 0;
  const float* x_f32 = nullptr;  // instead of x
  const float* gamma = nullptr;  // [K], with beta: LayerNorm of x_f32
  const float* beta = nullptr;
  float eps = 1e-5F;

  const void* weight = nullptr;
  const float* bias = nullptr;

  RowGemmOutput output = RowGemmOutput::kHalf;
  Activation activation = Activation::kNone;  // of kHalf
  void* y = nullptr;
  int64_t y_stride = 0;
  RowGemmScatter scatter;           // of kHalf
  const float* residual = nullptr;  // of kFloat
  int64_t residual_stride = 0;
  float scale = 1;

  bool dependent = false;
  bool starts_next = false;  // of few blocks
};

// How a product is cut. A block owns tiles_per_block tiles of tile_n columns, one after the other. K <= 512: of `rows`
// rows, and two warpgroups take the tiles in turn. K > 512: of 64 * groups rows, each warpgroup has its own.
// With four groups the weight-stationary form: a block keeps W's 4 * 64 columns, and rows pass by: of f32 rows for
// 16-bit output tiles of `rows` rows, which go round the blocks; of T rows for f32 output an equal share of those that
// there are, of M of them `rows`. It takes K = 256, multiples of 256 columns, no activation, and for f32 output 16-byte
// aligned rows of y and residual.
struct RowGemmConfig {
  int groups = 1;           // warpgroups: 1, 2; 4
  int tile_n = 64;          // 32, 64, 128
  int tiles_per_block = 1;  // 1 when K > 512
  int split = 1;            // RowGemmSegments(K): each block of a cluster has one segment of K
  int share = 1;            // 2: the two blocks of a cluster fetch W for each other; not with split
  int rows = 64;            // 16, 32, 64: fewer are prepared sooner; 64 when K > 512 or f32 rows are longer than 256;
                            // weight-stationary: any number, of a tile a multiple of 8 up to 64
};

// K is summed in so many segments of consecutive columns, each from zero, then the segments in ascending order. A
// function of K alone, so that a product split over a cluster has the bits of one that is not.
int RowGemmSegments(int64_t K);

// The weight-stationary form with about a block on every multiprocessor, whether it can run or not.
RowGemmConfig StationaryConfig(const RowGemmArguments& arguments, int multiprocessors);
// A configuration that measured fast for such shapes; `multiprocessors` as the device has.
RowGemmConfig ChooseRowGemmConfig(const RowGemmArguments& arguments, int multiprocessors);
// OK, or why the arguments cannot run on the current device; the second: in that configuration.
Status SupportsRowGemm(const RowGemmArguments& arguments);
Status SupportsRowGemm(const RowGemmArguments& arguments, const RowGemmConfig& config);

Status RowGemm(const RowGemmArguments& arguments, cudaStream_t stream);
Status RowGemm(const RowGemmArguments& arguments, const RowGemmConfig& config, cudaStream_t stream);

// [2D, K] weights (or with K = 1 a bias) with rows a, then b, into the order that kGlu expects: 8 rows of a, the 8 rows
// of b of the same channels, and so on. D is a multiple of 8. With blocks of 8 a thread's accumulators of a and b
// belong to the same channels, and the results lie as those of any other product.
template <typename Element>
std::vector<Element> InterleaveGlu(const Element* rows, int64_t D, int64_t K) {
  std::vector<Element> result(static_cast<size_t>(2 * D * K));
  for (int64_t row = 0; row < 2 * D; ++row) {
    const int64_t channel = row % D, is_gate = row / D;
    const int64_t target = channel / 8 * 16 + is_gate * 8 + channel % 8;
    for (int64_t k = 0; k < K; ++k) result[static_cast<size_t>(target * K + k)] = rows[row * K + k];
  }
  return result;
}

}  // namespace ting::cuda
