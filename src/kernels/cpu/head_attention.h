// src/kernels/cpu/head_attention.h
// SPDX-License-Identifier: Apache-2.0
//
// The middle of self, relative and cross attention: for each sequence and head, keys and values are packed into
// the thread's scratch, then query rows are answered 14 at a time.
#pragma once

#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/position_table.h"
#include "kernels/cpu/rows_job.h"

namespace ting::cpu {

// One sequence: its query rows and its keys and values.
struct AttentionSpan {
  int64_t first_row = 0, rows = 0;  // of q and of the result
  int64_t first_key = 0, keys = 0;  // of k and v
};

struct HeadAttention {
  int64_t D = 0;
  int heads = 1;
  const float* q = nullptr;
  int64_t q_stride = 0;
  const float *k = nullptr, *v = nullptr;
  int64_t key_stride = 0;
  const float* u = nullptr;                 // [D] added to q, or null
  float scale = 1;                          // of q + u
  const PositionRows* positions = nullptr;  // holds all keys of the longest sequence
  const StepOptions* options = nullptr;     // chunk masks; null: all keys are visible
  std::byte* out = nullptr;                 // [rows, D] as the output matrix reads them
  GemmMode out_mode = GemmMode::kF32;
  int64_t out_row_bytes = 0;
};

struct AttentionTask {
  int span = 0, head = 0;
  int64_t first = 0, rows = 0;  // query rows of the span
};

// Takes scratch from `carver` and, unless it only counts, runs all spans. `tasks` is reused from step to step.
void RunHeads(const IsaTable& isa, ThreadPool& pool, const HeadAttention& attention,
              std::span<const AttentionSpan> spans, std::vector<AttentionTask>& tasks, Carver& carver, bool run);

}  // namespace ting::cpu
