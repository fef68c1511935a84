// src/kernels/cuda/tree_attention.h
// SPDX-License-Identifier: Apache-2.0
//
// Tree attention as its kernels take it; attention_kernels.cc fills it in.
#pragma once

#include "kernels/cuda/attention_kernels.h"

namespace ting::cuda {

struct TreeAttention {
  const void *q = nullptr, *k = nullptr;  // k of the first row; v follows it
  void *pool = nullptr, *context = nullptr;
  int64_t qkv_stride = 0, pool_stride = 0, context_stride = 0;
  const int32_t *slots = nullptr, *ancestor_offsets = nullptr, *ancestors = nullptr, *num_rows = nullptr;
  int max_rows = 0;
  int heads = 0, head_width = 0;
  int item_bytes = 0;    // of an element
  bool aligned = false;  // all vectors of 8 columns lie at multiples of 16 bytes; always with 16-bit elements
  bool store = true;     // k and v are not in the pool yet
  float scale_log2 = 1;  // scale * log2(e): the softmax has base 2
};

Status LaunchTree(DType dtype, const TreeAttention& problem, bool dependent, cudaStream_t stream);

}  // namespace ting::cuda
