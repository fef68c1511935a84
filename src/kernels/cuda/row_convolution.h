// src/kernels/cuda/row_convolution.h
// SPDX-License-Identifier: Apache-2.0
//
// What the middle of a conv_module (kernels/conv_module.h) needs besides its rows, as kernels take it: the depthwise
// convolution over the rows of a sequence, LayerNorm over the channels, activation.
#pragma once

#include <cstdint>

#include "kernels/params.h"

namespace ting::cuda {

struct RowConvolution {
  const float* taps = nullptr;   // [num_taps, D]
  const float* bias = nullptr;   // [D], may be null
  const float* edge = nullptr;   // [D] what stands before a sequence's start (causal); null: zeros
  const float* gamma = nullptr;  // [D], with beta: LayerNorm of the sums; null: none
  const float* beta = nullptr;
  float eps = 1e-5F;
  int num_taps = 0, left = 0;
  Activation activation = Activation::kSwish;
  const int32_t* offsets = nullptr;  // [sequences + 1] on the device: where each sequence's rows begin
  int sequences = 0;
};

}  // namespace ting::cuda
