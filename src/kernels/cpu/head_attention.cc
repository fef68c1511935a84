// src/kernels/cpu/head_attention.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/head_attention.h"

namespace ting::cpu {
namespace {

int64_t Padded(int64_t n) { return (n + kPanelWidth - 1) / kPanelWidth * kPanelWidth; }

// A task is a head of a sequence. Where those are too few for the threads, its rows are cut as well; each piece
// packs the keys again, which costs a piece of 56 rows about a tenth.
void ListTasks(std::span<const AttentionSpan> spans, int heads, int threads, std::vector<AttentionTask>& tasks) {
  tasks.clear();
  const int64_t whole = static_cast<int64_t>(spans.size()) * heads;
  const int64_t pieces = whole >= 2 * threads ? 1 : (2 * threads + whole - 1) / std::max<int64_t>(whole, 1);
  for (int s = 0; s < static_cast<int>(spans.size()); ++s) {
    const int64_t rows = spans[s].rows;
    const int64_t count = std::max<int64_t>(std::min(pieces, rows / (4 * kAttentionRows)), 1);
    for (int head = 0; head < heads; ++head) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t first = rows * i / count;
        tasks.push_back({s, head, first, rows * (i + 1) / count - first});
      }
    }
  }
  // Long sequences first, so that no thread is left with one at the end.
  std::stable_sort(tasks.begin(), tasks.end(), [&](const AttentionTask& a, const AttentionTask& b) {
    return a.rows * spans[a.span].keys > b.rows * spans[b.span].keys;
  });
}

struct Scratch {
  float *keys, *values, *scores;
};

void RunTask(const IsaTable& isa, const HeadAttention& h, const AttentionSpan& span, const AttentionTask& task,
             const Scratch& scratch) {
  const int64_t Dh = h.D / h.heads, column = task.head * Dh;
  PackHeadArgs pack;
  pack.k = h.k + span.first_key * h.key_stride + column, pack.k_stride = h.key_stride;
  pack.v = h.v + span.first_key * h.key_stride + column, pack.v_stride = h.key_stride;
  if (h.positions->keys.data() != nullptr) {
    pack.positions = reinterpret_cast<const float*>(h.positions->keys.data()) + column, pack.position_stride = h.D;
  }
  pack.T = span.keys, pack.Dh = Dh;
  pack.key_panels = scratch.keys, pack.value_panels = scratch.values;
  isa.pack_head(pack);

  const auto* bias = reinterpret_cast<const float*>(h.positions->bias.data()) + task.head * h.positions->bias_stride;
  const int64_t blocks = (task.rows + kAttentionRows - 1) / kAttentionRows;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = task.first + task.rows * block / blocks;
    const int64_t rows = task.first + task.rows * (block + 1) / blocks - first;
    int64_t first_key[kAttentionRows], last_key[kAttentionRows];
    for (int64_t r = 0; r < rows; ++r) {
      const KeyRange range =
          h.options == nullptr ? KeyRange{0, span.keys} : VisibleKeys(*h.options, first + r, span.keys);
      first_key[r] = range.first, last_key[r] = range.last;
    }
    AttentionArgs args;
    args.q = h.q + (span.first_row + first) * h.q_stride + column, args.q_stride = h.q_stride, args.rows = rows;
    args.u = h.u == nullptr ? nullptr : h.u + column, args.scale = h.scale;
    args.key_panels = scratch.keys, args.value_panels = scratch.values, args.key_bias = bias;
    args.T = span.keys, args.Dh = Dh;
    args.first = first_key, args.last = last_key;
    args.scratch = scratch.scores;
    args.out = h.out + (span.first_row + first) * h.out_row_bytes;
    args.out_mode = h.out_mode, args.out_row_bytes = h.out_row_bytes, args.out_column = column;
    isa.attention(args);
  }
}

}  // namespace

void RunHeads(const IsaTable& isa, ThreadPool& pool, const HeadAttention& h, std::span<const AttentionSpan> spans,
              std::vector<AttentionTask>& tasks, Carver& carver, bool run) {
  const int64_t Dh = h.D / h.heads;
  int64_t T = 0;
  for (const AttentionSpan& span : spans) T = std::max(T, span.keys);
  const int threads = pool.num_threads();
  const int64_t keys = Padded(T) * Dh, values = T * Padded(Dh), scores = AttentionScratchFloats(T, Dh);
  const int64_t each = Padded(keys) + Padded(values) + Padded(scores);
  auto* scratch = carver.Take<float>(threads * each);
  if (!run) return;
  ListTasks(spans, h.heads, threads, tasks);
  pool.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t i, int thread) {
    float* mine = scratch + thread * each;
    RunTask(isa, h, spans[tasks[i].span], tasks[i], {mine, mine + Padded(keys), mine + Padded(keys) + Padded(values)});
  });
}

}  // namespace ting::cpu
