// src/decoders/cuda/search_warp.h
// SPDX-License-Identifier: Apache-2.0
//
// One warp takes one utterance from its rows to its results: what the kernels run, and the emulation of the tests.
// Results are staged in device memory, since a trie is walked from the last token to the first, and then copied by
// whole warps: a line of host memory is written at once.
#pragma once

#include <cstdint>

#include "base/device_code.h"
#include "decoders/cuda/prefix_beam_core.h"
#include "decoders/cuda/search_types.h"

namespace ting::cuda_ctc {

// Where the rows of a sequence are, and where its part of the buffers begins.
struct SequenceRows {
  int32_t first = 0, count = 0;
  bool inside = false;

  TING_DEVICE SequenceRows(const SearchRows& rows, int sequence)
      : first(rows.row_offsets[sequence]), count(rows.row_offsets[sequence + 1] - first) {
    if (count < 0) count = 0;
    inside = first >= 0 && first <= rows.max_rows && count <= rows.max_rows - first;
  }
};

template <class Lanes>
TING_DEVICE CtcSymbol LoadSymbol(const Lanes& lanes, const SearchRows& rows, int32_t row, int32_t end, int32_t count) {
  if (row >= end || lanes.lane() >= count) return {0, 0};
  const int64_t at = int64_t{row} * rows.k + lanes.lane();
  return {rows.logp[at], rows.ids[at]};
}

// Out[i] = staged[count - 1 - i] for the `count` of lane p, for each p < num_lists; lists are `stride` apart.
template <class Lanes, class T>
TING_DEVICE void CopyReversed(Lanes lanes, const T* staged, T* out, int32_t count, int num_lists, int64_t stride) {
  for (int p = 0; p < num_lists; ++p) {
    const int32_t n = lanes.Broadcast(count, p);
    for (int32_t i = lanes.lane(); i < n; i += kMaxBeam) out[p * stride + i] = staged[p * stride + n - 1 - i];
  }
}

template <class Lanes>
TING_DEVICE void WriteHypotheses(Lanes lanes, const PrefixMembers& members, int size, int sequence,
                                 const SequenceRows& rows, int32_t refused, int32_t beam, const SearchScratch& scratch,
                                 const SearchOutput& out) {
  const int p = lanes.lane();
  const int64_t base = int64_t{rows.first} * beam, mine = base + int64_t{p} * rows.count;
  // Hypotheses of probability zero are left out, but for the first.
  const double impossible = -std::numeric_limits<double>::infinity();
  const bool written = p < size && (p == 0 || members.score[p] > impossible);
  const int num_hypotheses = lanes.CountBits(lanes.Ballot(written));
  int32_t num_tokens = 0, num_times = 0;
  if (written) {
    int32_t node = members.node[p], time = members.times[p];
    while (node > 0 || time >= 0) {
      const TrieNode here = node > 0 ? scratch.nodes[base + node - 1] : TrieNode{0, 0};
      const int32_t before = time >= 0 ? scratch.times[base + time] : -1;
      if (node > 0) scratch.staged_tokens[mine + num_tokens++] = here.token;
      if (time >= 0) scratch.staged_times[mine + num_times++] = time / beam;
      node = here.parent, time = before;
    }
    out.hypotheses[int64_t{sequence} * beam + p] = {members.score[p], members.viterbi[p], members.blank[p],
                                                    members.token[p], num_tokens,         num_times};
  }
  if (p == 0) out.sequences[sequence] = {num_hypotheses, refused, rows.first, rows.count};
  lanes.Sync();
  CopyReversed(lanes, scratch.staged_tokens + base, out.tokens + base, num_tokens, num_hypotheses, rows.count);
  CopyReversed(lanes, scratch.staged_times + base, out.times + base, num_times, num_hypotheses, rows.count);
}

template <class Lanes, class LogAdd>
TING_DEVICE void PrefixBeamUtterance(Lanes lanes, LogAdd log_add, const SearchRows& rows, int sequence,
                                     const PrefixBeamSettings& settings, PrefixBeamMemory* memory,
                                     const SearchScratch& scratch, const SearchOutput& out) {
  const SequenceRows own(rows, sequence);
  if (!own.inside) {
    if (lanes.lane() == 0) out.sequences[sequence] = {-1, -1, 0, 0};
    return;
  }
  const int64_t base = int64_t{own.first} * settings.beam;
  PrefixBeamCore<Lanes, LogAdd> core(lanes, log_add, settings, memory, scratch.nodes + base, scratch.times + base);
  core.Start();
  int32_t refused = -1;
  const int32_t end = own.first + own.count;
  // Two frames ahead, since a frame takes about as long as a read from memory.
  CtcSymbol next = LoadSymbol(lanes, rows, own.first, end, settings.token_beam);
  CtcSymbol after = LoadSymbol(lanes, rows, own.first + 1, end, settings.token_beam);
  for (int32_t t = 0; t < own.count && refused < 0; ++t) {
    const CtcSymbol symbol = next;
    next = after;
    after = LoadSymbol(lanes, rows, own.first + t + 2, end, settings.token_beam);
    if (!core.AcceptFrame(t, symbol)) refused = t;
  }
  WriteHypotheses(lanes, core.members(), core.size(), sequence, own, refused, settings.beam, scratch, out);
}

// Greedy search: the scalar loop of CtcGreedySearch, run by all lanes on frames that they read 32 at a time. Its score
// is a sum in the order of the frames; adding is cheap beside reading.
template <class Lanes>
TING_DEVICE void GreedyUtterance(Lanes lanes, const SearchRows& rows, int sequence, int32_t blank_id,
                                 const SearchScratch& scratch, const SearchOutput& out) {
  const SequenceRows own(rows, sequence);
  if (!own.inside) {
    if (lanes.lane() == 0) out.sequences[sequence] = {-1, -1, 0, 0};
    return;
  }
  double score = 0;
  float peak = 0;
  int32_t previous = blank_id, num_tokens = 0;
  for (int32_t base = 0; base < own.count; base += kMaxBeam) {
    const int32_t t = base + lanes.lane();
    const int64_t at = int64_t{own.first + t} * rows.k;
    const CtcSymbol mine = t < own.count ? CtcSymbol{rows.logp[at], rows.ids[at]} : CtcSymbol{0, blank_id};
    for (int j = 0; j < kMaxBeam && base + j < own.count; ++j) {
      const int32_t token = lanes.Broadcast(mine.id, j);
      const float logp = lanes.Broadcast(mine.logp, j);
      score += logp;
      const bool starts = token != previous;
      previous = token;
      if (token == blank_id || (!starts && logp <= peak)) continue;
      num_tokens += starts;
      peak = logp;
      if (lanes.lane() == 0) {
        const int64_t slot = int64_t{own.first} + num_tokens - 1;
        scratch.staged_tokens[slot] = token;
        scratch.staged_times[slot] = base + j;
      }
    }
  }
  if (lanes.lane() == 0) {
    out.hypotheses[sequence] = {score, 0, 0, 0, num_tokens, num_tokens};
    out.sequences[sequence] = {1, -1, own.first, own.count};
  }
  lanes.Sync();
  for (int32_t i = lanes.lane(); i < num_tokens; i += kMaxBeam) {
    const int32_t time = scratch.staged_times[own.first + i];
    out.tokens[own.first + i] = scratch.staged_tokens[own.first + i];
    out.times[own.first + i] = time;
    out.peaks[own.first + i] = rows.logp[int64_t{own.first + time} * rows.k];
  }
}

}  // namespace ting::cuda_ctc
