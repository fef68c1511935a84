// src/kernels/cuda/fused_head_selection.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Of fused_head_finish.cu: how a warp finds the k best of a row among the groups that the product kept.
//
// The k-th largest of the lanes' largest logits is a bound that a dozen groups reach, or two dozen. What reaches it in
// these groups becomes a candidate, in any order: a candidate's place among the k best is the number of those before
// it. Each step is there once and in few instructions: with few rows code is fetched while it runs, with many the
// instructions are the limit.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fused_head_parameters.h"

namespace ting::cuda::head {

constexpr uint32_t kAll = 0xFFFFFFFF;

__device__ inline int Lane() { return static_cast<int>(threadIdx.x % 32); }

// A float's bits as an integer of the same order, and back.
__device__ inline int InOrder(int bits) { return bits ^ (bits >> 31 & 0x7FFFFFFF); }
__device__ inline float LargestOfWarp(float v) {
  return __int_as_float(InOrder(__reduce_max_sync(kAll, InOrder(__float_as_int(v)))));
}
__device__ inline float LeastOfWarp(float v) {
  return __int_as_float(InOrder(__reduce_min_sync(kAll, InOrder(__float_as_int(v)))));
}

// The bits that are set in the lanes' words, each with a place of its own in a list that has `count` entries.
template <typename Body>
__device__ inline void ForEachBit(uint32_t bits, int& count, const Body& body) {
#pragma unroll 1
  while (true) {
    const uint32_t mask = __ballot_sync(kAll, bits != 0);
    if (mask == 0) break;
    if (bits != 0) {
      const int bit = 31 - __clz(static_cast<int>(bits));
      bits ^= 1U << bit;
      body(bit, count + __popc(mask & ((1U << Lane()) - 1)));
    }
    count += __popc(mask);
  }
  __syncwarp();
}

// Groups that a lane has at once: of 5,632 columns, so that those of a vocabulary of characters are read once.
constexpr int kLaneGroups = 11;
constexpr int kChunk = 32 * kLaneGroups;  // groups of a warp
constexpr int kLooked = 16;               // groups that are looked through together, two lanes each
constexpr int kRanked = 8;                // candidates that two lanes compare with theirs at once

struct Best {
  float logp;
  int id;
};
__device__ inline bool Before(Best a, Best b) { return a.logp > b.logp || (a.logp == b.logp && a.id < b.id); }

// A warp's memory.
struct Waiting {
  Best candidates[32 + kLooked * kGroup + kRanked];  // the best so far, others, nobody
  Best sorted[32];
  alignas(16) float lanes[32];
  int numbers[kChunk];  // of groups
};

// The k-th largest of the lanes' values, k <= 32: the least of those that fewer than k are larger than.
__device__ inline float KthLargest(float value, int k, Waiting& waiting) {
  waiting.lanes[Lane()] = value;
  __syncwarp();
  uint32_t larger = 0;
#pragma unroll
  for (int i = 0; i < 32; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(waiting.lanes + i);
    larger += IsLess(value, four.x), larger += IsLess(value, four.y);
    larger += IsLess(value, four.z), larger += IsLess(value, four.w);
  }
  return LeastOfWarp(larger < static_cast<uint32_t>(k) ? value : INFINITY);
}

// A lane's part of a chunk of a row's groups, every 32nd: their largest logits.
class LaneGroups {
 public:
  // Of `count` groups.
  __device__ void Fetch(const Group* groups, int first, int count) {
    first_ = first + Lane();
    groups += first_;
#pragma unroll
    for (int i = 0; i < kLaneGroups; ++i) largest_[i] = first_ + 32 * i < count ? groups[32 * i].largest : -INFINITY;
  }
  __device__ float Largest() const {
    float largest = -INFINITY;
#pragma unroll
    for (const float value : largest_) largest = fmaxf(largest, value);
    return largest;
  }
  // The numbers of those that reach `bound`, and how many; of a bound of -inf, or of NaNs, too many.
  __device__ int List(float bound, int* numbers) const {
    uint32_t below = kAll;
#pragma unroll
    for (int i = kLaneGroups - 1; i >= 0; --i) below = 2 * below + IsLess(largest_[i], bound);
    int count = 0;
    ForEachBit(~below, count, [&](int i, int place) { numbers[place] = first_ + 32 * i; });
    return count;
  }

 private:
  float largest_[kLaneGroups];
  int first_;
};

// What the product kept of a row.
struct KeptRow {
  const Group* groups;
  const float* logits;
  int count;  // of groups
};

// The k best of the chunks that were added.
class Selection {
 public:
  __device__ Selection(const KeptRow& row, int k, Waiting& waiting) : row_(row), k_(k), waiting_(waiting) {}
  __device__ void Start(float log_sum) { log_sum_ = log_sum; }

  __device__ void Add(const LaneGroups& groups) {
    // k lanes have a column that reaches it. Columns that are not kept have at least k before them as well.
    bound_ = fmaxf(bound_, KthLargest(groups.Largest(), k_, waiting_) - kSlack);
    const int count = groups.List(bound_, waiting_.numbers);
#pragma unroll 1
    for (int first = 0; first < count; first += kLooked) {
      const int at = first + Lane() / 2;
      Look(at < count ? waiting_.numbers[at] : row_.count);
      Rank();
    }
  }
  // One a lane, in order.
  __device__ Best best() const { return best_; }

 private:
  // Two lanes look through a group, each through half of its columns. Candidates are ranked by the rounded
  // log-probability: what the caller sees as equal is ordered as promised.
  __device__ void Look(int number) {
    constexpr int kHalf = kGroup / 2;
    const int half = Lane() % 2 * kHalf;
    const Group group = number < row_.count ? row_.groups[number] : Group{0, kNoElement};
    const float* logits = row_.logits + number * kGroup + half;
    const bool several = group.element == kSeveral;
    const auto single = static_cast<uint32_t>(group.element - half);
    const uint32_t reach = several ? Reaching(logits) : single < kHalf ? 1U << single : 0;
    ForEachBit(reach, candidates_, [&](int i, int place) {
      const float logit = several ? logits[i] : group.largest;
      waiting_.candidates[place] = {logit - log_sum_, GroupColumn(number, half + i)};
    });
  }
  __device__ uint32_t Reaching(const float* logits) const {
    uint32_t below = kAll;
#pragma unroll
    for (int i = 4; i >= 0; i -= 4) {
      const float4 four = *reinterpret_cast<const float4*>(logits + i);
      below = 2 * below + IsLess(four.w, bound_), below = 2 * below + IsLess(four.z, bound_);
      below = 2 * below + IsLess(four.y, bound_), below = 2 * below + IsLess(four.x, bound_);
    }
    return ~below;
  }
  // Leaves the k best of all candidates. Two lanes a candidate, each counts half of those before it. NaNs, which have
  // no order, leave some places to nobody.
  __device__ void Rank() {
    waiting_.sorted[Lane()] = {-INFINITY, kNobody};
    if (Lane() < kRanked) waiting_.candidates[candidates_ + Lane()] = {-INFINITY, kNobody};
    __syncwarp();
#pragma unroll 1
    for (int first = 0; first < candidates_; first += 16) {
      const int at = first + Lane() / 2;
      const Best mine = waiting_.candidates[at];
      int place = 0;
#pragma unroll 1
      for (int i = Lane() % 2; i < candidates_; i += kRanked) {
#pragma unroll
        for (int j = 0; j < kRanked; j += 2) place += Before(waiting_.candidates[i + j], mine) ? 1 : 0;
      }
      place += __shfl_xor_sync(kAll, place, 1);
      if (at < candidates_ && place < k_) waiting_.sorted[place] = mine;
    }
    __syncwarp();
    best_ = waiting_.sorted[Lane()];
    candidates_ = min(candidates_, k_);
    if (Lane() < candidates_) waiting_.candidates[Lane()] = best_;
  }

  const KeptRow row_;
  const int k_;
  Waiting& waiting_;
  float bound_ = -INFINITY, log_sum_ = 0;
  Best best_{-INFINITY, kNobody};
  int candidates_ = 0;
};

}  // namespace ting::cuda::head
