// src/kernels/cuda/conv_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// The convolutions of subsample_conv2d on the GPU, one stage a call: y = relu(conv(x) + bias), no padding.
// Shapes     x [rows_in, F_in, C_in], channels innermost; or features f32 [rows_in, F_in] (C_in = 1), from which CMVN
//            takes (x - mean) * istd on the way, in f32. y [rows_out, F_out, C_out],
//            F_out = (F_in - kernel) / stride + 1
// Weights    [C_out, (time tap, frequency tap, C_in)] in the storage type; bias [C_out] f32
// Lengths    sequence b has rows [in_offsets[b], in_offsets[b + 1]) of x, [out_offsets[b], out_offsets[b + 1]) of y,
//            all on the device; its output row t reads rows t * stride + tap. The caller's offsets agree with each
//            other. max_rows_out >= out_offsets[B] bounds the grid; rows beyond out_offsets[B] are not written
// Numerics   f32 sums in the order of the weight's columns (ConvPair has its own); one rounding at the store; a row's
//            bits depend on its own sequence alone
// Execution  asynchronous on stream, may be captured
// Reference  kernels/ref/subsample_conv2d.cc            Tests  tests/kernels/cuda/conv_kernels_test.cc
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

struct ConvArguments {
  DType storage = DType::kF32;  // kF32, kF16, kBF16: of x, weight and y
  int kernel = 3, stride = 2;
  int64_t F_in = 0, C_in = 1, C_out = 0;

  const void* x = nullptr;
  const float* features = nullptr;  // instead of x
  const float* mean = nullptr;      // [F_in], with features; both or none
  const float* istd = nullptr;

  int64_t B = 0;
  const int32_t* in_offsets = nullptr;
  const int32_t* out_offsets = nullptr;
  int64_t max_rows_out = 0;

  const void* weight = nullptr;
  const float* bias = nullptr;
  void* y = nullptr;

  int64_t F_out() const { return (F_in - kernel) / stride + 1; }
};

// Any kernel, stride and number of channels, on any GPU: the fallback of every other one.
Status ConvGeneric(const ConvArguments& arguments, cudaStream_t stream);

// ---- ConvPair: both 3x3 stages of stride 2 of kind conv2d, from features to the second stage's output, on Hopper ---
// One kernel; the first stage's output, rounded to the storage type, stays on the chip. Features go into its sums as
// two values of the storage type each, which hold 22 bits of them in f16 (and 6e-8 of small ones), 16 in bf16. The
// second stage sums 32 channels after 32 channels, the taps of each in the order of the weight's columns.

struct ConvPairArguments {
  DType storage = DType::kF16;  // kF16, kBF16: of the weights and y
  int64_t F_in = 0, C = 0;      // C: channels of both stages

  const float* features = nullptr;  // [rows_in, F_in], 16-byte aligned
  const float* mean = nullptr;      // [F_in], both or none
  const float* istd = nullptr;

  int64_t B = 0;
  const int32_t* in_offsets = nullptr;
  const int32_t* out_offsets = nullptr;  // after both stages: (frames - 7) / 4 + 1 rows, 0 for fewer than 7 frames
  int64_t max_rows_out = 0;

  const void* weight[2] = {};  // [C, 9], [C, 9 * C]; the second 16-byte aligned
  const float* bias[2] = {};   // none may be null
  void* y = nullptr;           // [rows_out, F_out, C], 16-byte aligned

  bool dependent = false;  // programmatic dependent launch: no kernel of the stream may write weights or biases

  int64_t F1() const { return (F_in - 3) / 2 + 1; }
  int64_t F_out() const { return (F1() - 3) / 2 + 1; }
};

// How the second stage is cut: blocks of so many channels and positions (row, frequency). No choice changes a bit of
// the result.
struct ConvPairConfig {
  int channels = 256;
  int positions = 144;
};
inline constexpr ConvPairConfig kConvPairConfigs[] = {{256, 144}, {128, 144}, {64, 80}};

// OK, or why the pair cannot take such a model on the current device.
Status SupportsConvPair(DType storage, int64_t C, int64_t F_in);
Status ConvPair(const ConvPairArguments& arguments, cudaStream_t stream);

// In a configuration of one's choice, for tests and benchmarks. Not each takes every F_in.
Status SupportsConvPair(const ConvPairArguments& arguments, const ConvPairConfig& config);
Status ConvPair(const ConvPairArguments& arguments, const ConvPairConfig& config, cudaStream_t stream);
ConvPairConfig ChooseConvPairConfig(const ConvPairArguments& arguments, int multiprocessors);

}  // namespace ting::cuda
