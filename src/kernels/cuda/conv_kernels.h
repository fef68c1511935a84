// src/kernels/cuda/conv_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// The convolutions of subsample_conv2d on the GPU, one stage a call: y = relu(conv(x) + bias), no padding.
// Shapes     x [rows_in, F_in, C_in], channels innermost; or features f32 [rows_in, F_in] (C_in = 1), from which CMVN
//            takes (x - mean) * istd on the way, in f32. y [rows_out, F_out, C_out], F_out = (F_in - kernel) / stride +
//            1
// Weights    [C_out, (time tap, frequency tap, C_in)] in the storage type; bias [C_out] f32
// Lengths    sequence b has rows [in_offsets[b], in_offsets[b + 1]) of x, [out_offsets[b], out_offsets[b + 1]) of y,
// all
//            on the device; its output row t reads rows t * stride + tap. The caller's offsets agree with each other.
//            max_rows_out >= out_offsets[B] bounds the grid; rows beyond out_offsets[B] are not written
// Numerics   f32 sums in the order of the weight's columns; one rounding at the store; a row's bits depend on its own
//            sequence alone
// Execution  asynchronous on stream, may be captured
// Reference  kernels/ref/subsample_conv2d.cc            Tests  tests/kernels/cuda/conv_kernels_test.cc
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ting/status.h"

namespace ting::cuda {

enum class ConvStorage { kF32, kF16, kBF16 };

struct ConvArguments {
  ConvStorage storage = ConvStorage::kF32;  // of x, weight and y
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

}  // namespace ting::cuda
