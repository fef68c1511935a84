// src/kernels/cuda/ragged_attention.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of RaggedAttention share: how a block finds its rows, and which keys a row sees.
#pragma once

#include "kernels/cuda/ragged_attention.h"

namespace ting::cuda {

inline constexpr float kLog2E = 1.44269504088896F;

// The query rows of a block, all of one sequence, and that sequence's keys.
struct QueryTile {
  int row = 0, count = 0;  // rows [row, row + count) of q and context; none: nothing to do
  int start = 0;           // position of the first one in its sequence (self attention)
  int key_row = 0, num_keys = 0;
};

struct VisibleRange {
  int first, last;
};
// VisibleKeys (kernels/attention.h) of the query at position i.
__device__ inline VisibleRange VisibleOf(const RaggedAttention& p, int i, int num_keys) {
  if (p.chunk_frames == 0) return {0, num_keys};
  const int chunk = i / p.chunk_frames, left = p.num_left_chunks;
  return {left >= 0 && chunk > left ? (chunk - left) * p.chunk_frames : 0, min((chunk + 1) * p.chunk_frames, num_keys)};
}

// How many of 0 … count - 1 fulfil `predicate`, which holds up to some number and not from there on. All threads of the
// block search together: two rounds of loads for any count up to the square of the threads.
template <typename Predicate>
__device__ inline int PartitionPoint(int count, Predicate predicate) {
  const int end = count;
  int low = 0;
  while (count > 0) {  // the answer is in [low, low + count]
    const int share = (count + blockDim.x - 1) / blockDim.x;
    const int probe = low + (static_cast<int>(threadIdx.x) + 1) * share - 1;  // the last of the thread's share
    low += share * __syncthreads_count(probe < low + count && predicate(probe));
    count = min(share - 1, end - low);
  }
  return low;
}

// Self attention. Tiles start at the sequence's start, so that chunk masks cut them alike wherever the sequence lies.
// Tile k of sequence b has number offsets[b] / kRows + b + k: no two tiles share one, and it takes no prefix sum.
template <int kRows>
__device__ inline QueryTile FindOwnTile(const RaggedAttention& p) {
  const int number = blockIdx.x;
  const int b = PartitionPoint(p.sequences, [&](int i) { return p.key_offsets[i] / kRows + i <= number; }) - 1;
  QueryTile tile;
  if (b < 0) return tile;
  tile.key_row = p.key_offsets[b];
  tile.num_keys = p.key_offsets[b + 1] - tile.key_row;
  tile.start = (number - b - tile.key_row / kRows) * kRows;
  tile.row = tile.key_row + tile.start;
  tile.count = max(min(kRows, tile.num_keys - tile.start), 0);
  return tile;
}

// Cross attention. Row r belongs to the tile with number r / kRows + sequence[r], which ascends with r: the rows of one
// sequence between two multiples of kRows. That these cut a sequence anywhere changes no bits: all its rows see all
// keys.
template <int kRows>
__device__ inline QueryTile FindCrossTile(const RaggedAttention& p) {
  const int number = blockIdx.x, num_queries = min(*p.num_queries, p.max_queries);
  const auto tile_of = [&](int r) { return r / kRows + p.query_sequence[r]; };
  QueryTile tile;
  tile.row = PartitionPoint(num_queries, [&](int r) { return tile_of(r) < number; });
  const int r = tile.row + static_cast<int>(threadIdx.x);  // a block has at least kRows threads
  tile.count = __syncthreads_count(threadIdx.x < kRows && r < num_queries && tile_of(r) == number);
  if (tile.count == 0) return tile;
  const int b = p.query_sequence[tile.row];
  tile.key_row = p.key_offsets[b];
  tile.num_keys = p.key_offsets[b + 1] - tile.key_row;
  return tile;
}

template <int kRows>
__device__ inline QueryTile FindTile(const RaggedAttention& p) {
  return p.query_sequence == nullptr ? FindOwnTile<kRows>(p) : FindCrossTile<kRows>(p);
}

}  // namespace ting::cuda
