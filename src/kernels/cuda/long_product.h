// src/kernels/cuda/long_product.h
// SPDX-License-Identifier: Apache-2.0
//
// long_product: row_gemm's product for long rows and few columns on Hopper, as the one behind a subsampling's
// convolutions (K = 4,864, N = 256):
//   y[M, N] = scale * (x[M, K] W[N, K]^T + bias), T = f16 or bf16 operands, f32 sums and results.
// Arguments  those of row_gemm for f32 output, of T rows and without a residual; K > 512; N a multiple of 128; 16-byte
//            aligned bias and rows of y. Lengths, aliasing and execution are row_gemm's
// Numerics   K is cut into config.split segments, whose sums are added in ascending order: an element's bits depend on
//            the split alone, which the choice makes depend on the number of rows
// Why        x is far larger than W: row_gemm, whose bits are the same however it is cut, keeps a second set of sums,
//            so that its tiles are smaller and x and W pass from L2 to the multiprocessors more often. It stays the
//            faster one for few rows, whose K it cuts finer
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/row_gemm.h"
#include "ting/status.h"

namespace ting::cuda {

// A block multiplies 64 * groups rows by `columns` columns of one segment of K. The blocks of a tile are a cluster.
struct LongProductConfig {
  int groups = 2;     // warpgroups: 1, 2
  int columns = 256;  // 128; with two groups 256, too
  int split = 2;      // 1, 2, 3: clusters of more do not fill the device
};

// The fastest by an estimate that was fitted to measurements.
LongProductConfig ChooseLongProduct(const RowGemmArguments& arguments, int multiprocessors);
// Whether that is faster than row_gemm.
bool PrefersLongProduct(const RowGemmArguments& arguments);
// OK, or why the arguments cannot run on the current device; the second: in that configuration.
Status SupportsLongProduct(const RowGemmArguments& arguments);
Status SupportsLongProduct(const RowGemmArguments& arguments, const LongProductConfig& config);
Status LongProduct(const RowGemmArguments& arguments, const LongProductConfig& config, cudaStream_t stream);

}  // namespace ting::cuda
