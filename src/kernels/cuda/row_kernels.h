// src/kernels/cuda/row_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// Everything between the products, a row at a time: norms, activations, sums, depthwise convolution, log-softmax.
// Sizes are padded; `count` (device) holds the rows in use, rows past it are neither read nor written here (the
// products around them may write anything there). `type` is the storage type of what a product reads (f32, f16, bf16);
// all arithmetic is f32. Bits of a row depend on that row (for the depthwise convolution: on its sequence) alone.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/kernel.h"
#include "kernels/params.h"
#include "ting/status.h"

namespace ting::cuda {

struct RowRange {
  int64_t rows = 0;                // padded
  const int32_t* count = nullptr;  // in use; null: all
  int64_t first = 0;               // number of row 0, where the rows are a part of those that `count` counts
};

// out (type) = LayerNorm(x), or x itself where norm.gamma is null. x [R, D] f32.
Status NormalizeRows(DType type, const float* x, const DeviceNorm& norm, RowRange range, int64_t D, void* out,
                     cudaStream_t stream);
// out (type) = activation(x + bias). x [R, N] f32.
Status ActivateRows(DType type, const float* x, const float* bias, Activation activation, RowRange range, int64_t N,
                    void* out, cudaStream_t stream);
// out (type) [R, D] = a * sigmoid(b), x + bias [R, 2D] = a | b.
Status GluRows(DType type, const float* x, const float* bias, RowRange range, int64_t D, void* out,
               cudaStream_t stream);
// out f32 = post(residual + scale * (x + bias)); residual may be null (0), post.gamma too. In place (out = x) is
// allowed.
Status FinishRows(const float* x, const float* bias, const float* residual, float scale, const DeviceNorm& post,
                  RowRange range, int64_t D, float* out, cudaStream_t stream);
// y = a + scale * b, f32.
Status AddRows(const float* a, const float* b, float scale, RowRange range, int64_t D, float* y, cudaStream_t stream);
// PE(p): element 2i is sin(p * frequencies[i]), 2i + 1 its cosine (kernels/params.h, PositionRow): computed, not looked
// up, so there is no last position. `frequencies` [ceil(D / 2)] f32: PositionFrequencies.
std::vector<float> PositionFrequencies(int64_t D);
// y = x + PE(position in the sequence).
Status AddPositions(const float* x, const float* frequencies, const DeviceRows& rows, RowRange range, int64_t D,
                    float* y, cudaStream_t stream);
// y = table[tokens] * scale + PE(positions), f32. Tokens outside the table count as 0: the host refuses them.
Status EmbedRows(const float* table, int64_t V, const int32_t* tokens, const int32_t* positions,
                 const float* frequencies, float scale, RowRange range, int64_t D, float* y, cudaStream_t stream);

struct DepthwiseParams {
  const float* taps = nullptr;  // [K, D]
  const float* bias = nullptr;  // [D], may be null
  const float* edge = nullptr;  // [D] what stands before a sequence's start (causal), null: zeros
  int num_taps = 0, left = 0;
  DeviceNorm norm;                                 // LayerNorm of the sums; gamma null: none
  const float *scale = nullptr, *shift = nullptr;  // [D] BatchNorm as a scale and a shift; null: none
  Activation activation = Activation::kSwish;
};
// out [R, D] = activation(norm(depthwise(g))), g [R, D], both of `type`, within the sequences of `rows`.
Status DepthwiseRows(DType type, const void* g, const DepthwiseParams& params, const DeviceRows& rows, RowRange range,
                     int64_t D, void* out, cudaStream_t stream);
// The same with `window` rows a block (4, 8, 16) where a kernel for the usual shapes has them; 0: the kernel for any.
Status DepthwiseRows(DType type, const void* g, const DepthwiseParams& params, const DeviceRows& rows, RowRange range,
                     int64_t D, void* out, cudaStream_t stream, int window);

// Offsets [sequences + 1] of the rows that a convolution leaves: each length n becomes (n - kernel) / stride + 1, or 0.
Status StageOffsets(const int32_t* offsets, int sequences, int kernel, int stride, int32_t* out, cudaStream_t stream);

// Of logits [R, stride] f32 (V used) + bias (may be null), minus `penalty` at `blank`:
// the k best log-probabilities and their ids, descending, equal ones: lower id first;
Status TopKRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                RowRange range, int64_t k, float* logp, int32_t* ids, cudaStream_t stream);
// all log-probabilities [R, V];
Status LogSoftmaxRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                      RowRange range, float* logp, cudaStream_t stream);
// those that targets (rows[g], ids[g]) ask for, rows ascending, among rows range.first + [0, range.rows).
Status TargetRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                  RowRange range, const int32_t* rows, const int32_t* ids, RowRange targets, float* logp,
                  cudaStream_t stream);

}  // namespace ting::cuda
