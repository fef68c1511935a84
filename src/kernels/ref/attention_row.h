// src/kernels/ref/attention_row.h
// SPDX-License-Identifier: Apache-2.0
//
// Attention of one query row over the keys that it sees: the part that all four attentions share.
#pragma once

#include "kernels/attention.h"

namespace ting::ref {

// The visible keys of a row: key j is row (index ? index[j] : j) of k and v, and row j of `positions`.
struct KeyRows {
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t stride = 0;  // between rows of k, and of v
  const int32_t* index = nullptr;
  const float* positions = nullptr;  // P [count, D], only in rel_attention
  int64_t count = 0;
};

// context [D] = softmax(scores) v, head by head; all zero if count = 0. `scores`: scratch of `count` doubles.
void AttendRow(const AttentionParams& params, const float* q, const KeyRows& keys, double* scores, float* context);

}  // namespace ting::ref
