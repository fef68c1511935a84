// src/kernels/cuda/ragged_attention.h
// SPDX-License-Identifier: Apache-2.0
//
// Self and cross attention as one problem, "query rows of sequences look at key rows of sequences", and the two kernels
// that solve it. attention_kernels.cc fills it in; the kernels take it by value.
#pragma once

#include "kernels/cuda/attention_kernels.h"

namespace ting::cuda {

struct RaggedAttention {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  const void* positions = nullptr;
  const float* key_bias = nullptr;
  void* context = nullptr;
  int64_t q_stride = 0, key_stride = 0, position_stride = 0, bias_stride = 0, context_stride = 0;
  const int32_t* key_offsets = nullptr;     // [sequences + 1]
  const int32_t* query_sequence = nullptr;  // [num_queries]; null: the query rows are the key rows
  const int32_t* num_queries = nullptr;     // on the device; only with query_sequence
  int sequences = 0, max_queries = 0;       // bounds
  int heads = 0, head_width = 0;
  float scale_log2 = 1;  // scale * log2(e): the kernels' softmax has base 2
  int chunk_frames = 0, num_left_chunks = -1;

  // Blocks along x for tiles of that many rows: every sequence may end with a tile that is not full.
  int NumTiles(int tile_rows) const { return (max_queries + tile_rows - 1) / tile_rows + sequences; }
};

Status LaunchFlashAttention(DType dtype, const RaggedAttention& problem, bool dependent, cudaStream_t stream);
Status LaunchPlainAttention(const RaggedAttention& problem, bool dependent, cudaStream_t stream);  // f32

}  // namespace ting::cuda
