// src/kernels/cuda/attention_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// The middle of the four attentions (kernels/attention.h): context = softmax(scores) v, without norm and projections.
// Layouts    row-major; strides in elements from row to row; D = heads * head_width; head h at columns [h * head_width,
// …) Dtypes     of q, k, v, positions and context: f32 (any head width up to 256; plain f32 products), or f16 and bf16
// (head
//            widths that are multiples of 8, up to 128; pointers of 16-byte alignment, strides multiples of 8)
// Numerics   scores, softmax and sums in f32; 16-bit kernels round the probabilities to the dtype for the product with
// v.
//            Positions are a second product into the same f32 sum: no rounding of k + P, no overflow in f16.
// Lengths    on the device; the launch depends on bounds alone, so it can be captured for a bucket of sizes. Rows
// beyond
//            the lengths are neither read nor written. Lengths that exceed the bounds are the caller's error.
// Masks      as VisibleKeys; a row without visible keys has the context 0.
// Execution  asynchronous on stream; no allocation, no synchronisation, safe under graph capture. With `dependent` the
//            numbers that say which rows there are, positions, key_bias and the memory of cross attention may be read
//            before the kernel launched just before has ended: it must not write them
// Determinism bit-identical run to run; a row's bits depend on its own sequence only, on no bound and no neighbour
// Aliasing   context must not overlap the inputs.
// Reference  kernels/ref/attention_row.cc      Tests, bench  tests/kernels/cuda/attention_kernels_test.cu
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

// The type in which heads of this width run where products are in `storage`: 16-bit kernels want multiples of 8, up to
// 128; other heads run in f32.
inline DType HeadType(DType storage, int64_t head_width) {
  return head_width % 8 == 0 && head_width <= 128 ? storage : DType::kF32;
}

// What the attentions have in common.
struct AttentionArgs {
  DType dtype = DType::kF16;
  int heads = 0;
  int head_width = 0;
  float scale = 1;          // of q·(k + P); 1 where q is scaled already
  void* context = nullptr;  // [rows, D]
  int64_t context_stride = 0;
  bool dependent = false;  // programmatic dependent launch (LaunchShape)
};

// self_attention and rel_attention: score_ij = scale * q_i·(k_j + P_j) + key_bias_j, j counted from the sequence's
// start.
struct SelfAttentionArgs : AttentionArgs {
  const void* qkv = nullptr;  // [rows, 3D]
  int64_t qkv_stride = 0;
  const int32_t* offsets = nullptr;  // [sequences + 1], the first 0; a sequence that does not exist is empty
  int sequences = 0;                 // bounds: of sequences, and of rows in all of them
  int rows = 0;
  const void* positions = nullptr;  // P [longest sequence, D], or none
  int64_t position_stride = 0;
  const float* key_bias = nullptr;  // [longest sequence, heads], or none
  int64_t bias_stride = 0;
  int chunk_frames = 0;
  int num_left_chunks = -1;
};
Status LaunchSelfAttention(const SelfAttentionArgs& args, cudaStream_t stream);

// cross_attention: row r looks at all rows of sequence[r] of the memory.
struct CrossAttentionArgs : AttentionArgs {
  const void* q = nullptr;  // [U, D]
  int64_t q_stride = 0;
  const int32_t* sequence = nullptr;  // [U], ascending
  const int32_t* num_rows = nullptr;  // U, one number
  int rows = 0;                       // bound of U
  const void* memory = nullptr;       // [memory rows, M]: k at columns [key_column, + D), then v
  int64_t memory_stride = 0;
  int64_t key_column = 0;
  const int32_t* offsets = nullptr;  // of the memory's sequences, [sequences + 1]
  int sequences = 0;                 // bound
};
Status LaunchCrossAttention(const CrossAttentionArgs& args, cudaStream_t stream);

// tree_attention: stores k and v of each row at pool[slots[r]], then attends to pool[ancestors[…]] (two launches, or
// one where they have been stored already).
struct TreeAttentionArgs : AttentionArgs {
  const void* qkv = nullptr;  // [U, 3D]
  int64_t qkv_stride = 0;
  const int32_t* slots = nullptr;             // [U]
  const int32_t* ancestor_offsets = nullptr;  // [U + 1]
  const int32_t* ancestors = nullptr;         // [A]
  const int32_t* num_rows = nullptr;          // U, one number
  int rows = 0;                               // bound of U
  void* pool = nullptr;                       // [P, 2D]: k, then v
  int64_t pool_stride = 0;
  bool store = true;
};
Status LaunchTreeAttention(const TreeAttentionArgs& args, cudaStream_t stream);

}  // namespace ting::cuda
