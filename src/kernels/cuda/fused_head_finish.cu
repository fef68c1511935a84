// src/kernels/cuda/fused_head_finish.cu
// SPDX-License-Identifier: Apache-2.0
//
// What follows the product of fused_head.h, a warp a row or a target: the log of the sum of exponentials, of the
// segments in a fixed order, and the k best of the columns that were kept, or the logit of the target.
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fused_head_parameters.h"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"

namespace ting::cuda::head {
namespace {

constexpr int kWarps = 8;
constexpr uint32_t kAll = 0xFFFFFFFF;

__device__ inline int Lane() { return static_cast<int>(threadIdx.x) % 32; }

// The sums of a row's segments, `stride` apart; a lane takes every 32nd. The first are on their way from the start.
class RowSum {
 public:
  __device__ RowSum(const float2* sums, int64_t stride, int segments)
      : sums_(sums), stride_(stride), segments_(segments) {
    Fetch(Lane());
  }
  __device__ float Log() {
    constexpr float kLn2 = 0.693147181F;
    float2 total = make_float2(kLowest, 0);  // log2 of a scale, sum relative to it
    for (int first = Lane(); first - Lane() < segments_; first += 32 * kTogether) {
      if (first >= 32) Fetch(first);
#pragma unroll
      for (const float2& segment : read_) {
        const float scale = fmaxf(total.x, segment.x);
        total = make_float2(scale, total.y * Exp2(total.x - scale) + segment.y * Exp2(segment.x - scale));
      }
    }
    const float scale = WarpMax(total.x);
    return fmaf(scale, kLn2, logf(WarpSum(total.y * Exp2(total.x - scale))));
  }

 private:
  static constexpr int kTogether = 2;

  __device__ void Fetch(int first) {
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int segment = first + 32 * i;
      read_[i] = segment < segments_ ? sums_[segment * stride_] : make_float2(kLowest, 0);
    }
  }

  const float2* sums_;
  const int64_t stride_;
  const int segments_;
  float2 read_[kTogether];
};

// ---- the k best ----------------------------------------------------------------------------------------------------

struct Best {
  float value;
  int id;
};
__device__ inline bool Before(Best a, Best b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }
__device__ inline Best FromLane(Best best, int lane) {
  return {__shfl_sync(kAll, best.value, lane), __shfl_sync(kAll, best.id, lane)};
}

// The k-th largest of the lanes' values, k <= 32.
__device__ inline float KthLargest(float value, int k) {
  int before = 0;
#pragma unroll
  for (int lane = 0; lane < 32; ++lane) {
    const float other = __shfl_sync(kAll, value, lane);
    before += other > value || (other == value && lane < Lane());
  }
  const uint32_t found = __ballot_sync(kAll, before == k - 1);
  return found == 0 ? -INFINITY : __shfl_sync(kAll, value, __ffs(found) - 1);  // none: there are NaNs
}

// A warp's memory on the way from groups to candidates.
struct Waiting {
  Best candidates[32 + 32 + 128];
  int groups[32 + 32];
  Best sorted[32];
};

// The best candidates so far in order, one a lane; others wait until there are 32 to be merged at once.
class Selection {
 public:
  __device__ Selection(const TopKParameters& p, const float* kept, float bound, float log_sum, Waiting& waiting)
      : p_(p), kept_(kept), bound_(bound), log_sum_(log_sum), waiting_(waiting) {}

  // A group a lane.
  __device__ void Add(int number, const Group& group) {
    const bool reaches = group.element != kNoElement && group.largest >= bound_;
    const bool several = group.element == kSeveral;
    AddCandidate(reaches && !several, group.largest, GroupColumn(number, group.element));
    const uint32_t mask = __ballot_sync(kAll, reaches && several);
    if (mask != 0) AddGroups(number, mask);
    MergeFull();
  }
  __device__ void Finish(float* logp, int32_t* ids) {
    ReadGroups(groups_);
    if (candidates_ > 0) Merge(0, candidates_);
    if (Lane() < p_.k) logp[Lane()] = best_.value, ids[Lane()] = best_.id;
  }

 private:
  // Lanes set in `mask` before this one.
  __device__ static int Rank(uint32_t mask) { return __popc(mask & ((1U << Lane()) - 1)); }

  // The groups of the lanes in `mask` wait to be looked through.
  __device__ void AddGroups(int number, uint32_t mask) {
    if ((mask >> Lane() & 1) != 0) waiting_.groups[groups_ + Rank(mask)] = number;
    groups_ += __popc(mask);
    __syncwarp();
    if (groups_ < 32) return;
    ReadGroups(32);
    groups_ -= 32;
    const int moved = Lane() < groups_ ? waiting_.groups[32 + Lane()] : 0;
    __syncwarp();
    if (Lane() < groups_) waiting_.groups[Lane()] = moved;
    __syncwarp();
  }
  // The first `count` waiting groups, 16 at a time: four lanes a group, twice.
  __device__ void ReadGroups(int count) {
    for (int first = 0; first < count; first += 16) {
      int group[2];
      float4 values[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int at = first + 8 * j + Lane() / 4;
        group[j] = at < count ? waiting_.groups[at] : -1;
        values[j] = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
        if (group[j] >= 0) {
          values[j] = *reinterpret_cast<const float4*>(kept_ + int64_t{group[j]} * kGroup + Lane() % 4 * 4);
        }
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float v[4] = {values[j].x, values[j].y, values[j].z, values[j].w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int id = GroupColumn(group[j], Lane() % 4 * 4 + i);
          AddCandidate(group[j] >= 0 && id < p_.V && v[i] >= bound_, v[i], id);
        }
        MergeFull();
      }
    }
  }
  // Ranked by the rounded log-probability: what the caller sees as equal is ordered as promised.
  __device__ void AddCandidate(bool wanted, float logit, int id) {
    const uint32_t mask = __ballot_sync(kAll, wanted);
    if (wanted) waiting_.candidates[candidates_ + Rank(mask)] = {logit - log_sum_, id};
    candidates_ += __popc(mask);
  }
  // From the end, so that nothing needs to move.
  __device__ void MergeFull() {
    __syncwarp();
    while (candidates_ >= 32) {
      candidates_ -= 32;
      Merge(candidates_, 32);
    }
  }
  // Everyone's place is the number of those before it.
  __device__ void Merge(int first, int count) {
    const Best mine = Lane() < count ? waiting_.candidates[first + Lane()] : Best{-INFINITY, kNobody};
    if (filled_ >= p_.k && __ballot_sync(kAll, Before(mine, FromLane(best_, p_.k - 1))) == 0) return;
    int place = Lane(), my_place = 0;
    for (int i = 0; i < count; ++i) {
      const Best other = FromLane(mine, i);
      place += Before(other, best_), my_place += Before(other, mine);
    }
    for (int i = 0; i < filled_; ++i) my_place += Before(FromLane(best_, i), mine);
    if (Lane() < filled_ && place < 32) waiting_.sorted[place] = best_;
    if (Lane() < count && my_place < 32) waiting_.sorted[my_place] = mine;
    filled_ = min(filled_ + count, 32);
    __syncwarp();
    best_ = Lane() < filled_ ? waiting_.sorted[Lane()] : Best{-INFINITY, kNobody};
    __syncwarp();
  }

  const TopKParameters& p_;
  const float* kept_;
  const float bound_, log_sum_;
  Waiting& waiting_;
  Best best_{-INFINITY, kNobody};
  int filled_ = 0, candidates_ = 0, groups_ = 0;
};

// Four reads at a time are on their way.
template <typename Body>
__device__ inline void ForEachGroup(const Group* groups, int count, const Body& body) {
  constexpr int kTogether = 4;
  for (int first = 0; first < count; first += 32 * kTogether) {
    Group group[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int number = first + 32 * i + Lane();
      const float2 read = number < count ? *reinterpret_cast<const float2*>(groups + number)
                                         : make_float2(-INFINITY, __int_as_float(kNoElement));
      group[i] = {read.x, __float_as_int(read.y)};
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) body(first + 32 * i + Lane(), group[i]);
  }
}

__global__ void __launch_bounds__(kWarps * 32) FinishTopKKernel(const __grid_constant__ TopKParameters p) {
  __shared__ Waiting waiting[kWarps];
  WaitForPreviousKernel();
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= p.rows) return;
  RowSum sum(p.sums + row, p.rows, p.segments);
  if (p.count != nullptr && row >= *p.count - p.first_row) return;
  const int count = p.segments * kSegmentGroups;
  const Group* groups = p.groups + int64_t{row} * count;
  float largest = -INFINITY;
  ForEachGroup(groups, count, [&](int, const Group& group) {
    if (group.element != kNoElement) largest = fmaxf(largest, group.largest);
  });
  // k lanes have a column that reaches this. Columns that are not stored have at least k before them as well.
  const float bound = KthLargest(largest, p.k) - kSlack;
  Selection selection(p, p.kept + int64_t{row} * count * kGroup, bound, sum.Log(), waiting[threadIdx.x / 32]);
  ForEachGroup(groups, count, [&](int number, const Group& group) { selection.Add(number, group); });
  selection.Finish(p.logp + int64_t{row} * p.k, p.ids + int64_t{row} * p.k);
}

// ---- targets -------------------------------------------------------------------------------------------------------

// This lane's eights of a row of at most 512 elements.
template <typename T>
struct LaneRow {
  uint4 eights[2];

  __device__ void Fetch(const T* row, int K) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int k = 8 * (Lane() + 32 * i);
      eights[i] = k < K ? *reinterpret_cast<const uint4*>(row + k) : make_uint4(0, 0, 0, 0);
    }
  }
  __device__ float Dot(const LaneRow& other) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      T a[8], b[8];
      memcpy(a, &eights[i], sizeof a), memcpy(b, &other.eights[i], sizeof b);
#pragma unroll
      for (int j = 0; j < 8; ++j) sum = fmaf(ToFloat(a[j]), ToFloat(b[j]), sum);
    }
    return sum;
  }
};

// What the product did not write is read before it has ended.
template <typename T>
__global__ void __launch_bounds__(kWarps * 32) FinishTargetsKernel(const __grid_constant__ TargetParameters p) {
  const int target = static_cast<int>(blockIdx.x * (blockDim.x / 32)) + static_cast<int>(threadIdx.x) / 32;
  const int rows = p.count == nullptr ? p.rows : min(*p.count, p.rows);
  const int targets = p.target_count == nullptr ? p.targets : *p.target_count;
  int row = -1, id = -1;
  if (target < p.targets) row = p.target_rows[target], id = p.target_ids[target];
  const bool known = id >= 0 && id < p.V;
  LaneRow<T> w, x;
  float bias = 0;
  if (known) {
    w.Fetch(static_cast<const T*>(p.w) + int64_t{id} * p.K, p.K);
    if (p.bias != nullptr) bias = p.bias[id];
    if (id == p.blank) bias -= p.penalty;
  }
  WaitForPreviousKernel();
  if (target >= min(targets, p.targets) || row < 0 || row >= rows) return;
  float logp = -INFINITY;
  if (known) {
    RowSum sum(p.sums + row, p.rows, p.segments);
    x.Fetch(static_cast<const T*>(p.rounded) + int64_t{row} * p.K, p.K);
    // Two orders of sums: a certain target could be a little more than certain.
    logp = fminf(WarpSum(x.Dot(w)) + bias - sum.Log(), 0.0F);
  }
  if (Lane() == 0) p.logp[target] = logp;
}

LaunchShape ShapeFor(int count, int warps, bool dependent) {
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>((count + warps - 1) / warps));
  shape.block = dim3(static_cast<unsigned>(warps * 32));
  shape.dependent = dependent;
  return shape;
}
// Of a block: few with few targets, so that they have more multiprocessors.
int TargetWarps(int targets) {
  constexpr int kMultiprocessors = 132;
  int warps = 1;
  while (warps < kWarps && targets > warps * kMultiprocessors) warps *= 2;
  return warps;
}

}  // namespace

Status LaunchFinishTopK(const TopKParameters& parameters, bool dependent, cudaStream_t stream) {
  return Launch(FinishTopKKernel, ShapeFor(parameters.rows, kWarps, dependent), stream, parameters);
}

Status LaunchFinishTargets(HalfType type, const TargetParameters& parameters, bool dependent, cudaStream_t stream) {
  const auto kernel = type == HalfType::kF16 ? FinishTargetsKernel<__half> : FinishTargetsKernel<__nv_bfloat16>;
  return Launch(kernel, ShapeFor(parameters.targets, TargetWarps(parameters.targets), dependent), stream, parameters);
}

}  // namespace ting::cuda::head
