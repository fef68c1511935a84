// src/kernels/cuda/conv_parameters.h
// SPDX-License-Identifier: Apache-2.0
//
// Between conv_kernels.cc (checks, launch) and the kernels.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/conv_kernels.h"

namespace ting::cuda {

struct ConvParameters {
  const void* x;  // or the features
  const float* mean;
  const float* istd;
  const int32_t* in_offsets;
  const int32_t* out_offsets;
  const void* weight;
  const float* bias;
  void* y;
  int B, kernel, stride, F_in, F_out, C_in, C_out;
};

using ConvKernelFunction = void (*)(ConvParameters);

inline constexpr int kConvGenericThreads = 256;
ConvKernelFunction FindConvGeneric(DType storage, bool features);
dim3 ConvGenericGrid(const ConvParameters& p, int64_t max_rows_out);

}  // namespace ting::cuda
