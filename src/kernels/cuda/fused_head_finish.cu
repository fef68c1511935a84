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

// Of one row; `sums` are those of its segments, `stride` apart.
__device__ inline float LogSumExp(const float2* sums, int64_t stride, int segments) {
  constexpr float kLn2 = 0.693147181F;
  float highest = -INFINITY;
  for (int i = Lane(); i < segments; i += 32) highest = fmaxf(highest, sums[i * stride].x);
  highest = WarpMax(highest);
  float sum = 0;
  for (int i = Lane(); i < segments; i += 32) {
    const float2 segment = sums[i * stride];
    sum += segment.y * Exp2(segment.x - highest);
  }
  return fmaf(highest, kLn2, logf(WarpSum(sum)));
}

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
  Best candidates[32 + 128];
  int groups[32 + 32];
  Best sorted[32];
};

// The best candidates so far in order, one a lane; others wait until there are 32 to be merged at once.
class Selection {
 public:
  __device__ Selection(const TopKParameters& p, const float* kept, float log_sum, Waiting& waiting)
      : p_(p), kept_(kept), log_sum_(log_sum), waiting_(waiting) {}

  // Elements of kept groups that reach the bound, a group a lane.
  __device__ void AddGroups(int group, bool wanted, float bound) {
    const uint32_t mask = __ballot_sync(kAll, wanted);
    if (mask == 0) return;
    if (wanted) waiting_.groups[groups_ + Rank(mask)] = group;
    groups_ += __popc(mask);
    __syncwarp();
    if (groups_ < 32) return;
    ReadGroups(32, bound);
    const int rest = groups_ - 32;
    const int moved = Lane() < rest ? waiting_.groups[32 + Lane()] : 0;
    __syncwarp();
    if (Lane() < rest) waiting_.groups[Lane()] = moved;
    groups_ = rest;
    __syncwarp();
  }
  __device__ void Finish(float bound, float* logp, int32_t* ids) {
    ReadGroups(groups_, bound);
    Merge(candidates_);
    if (Lane() < p_.k) logp[Lane()] = best_.value, ids[Lane()] = best_.id;
  }

 private:
  // Lanes set in `mask` before this one.
  __device__ static int Rank(uint32_t mask) { return __popc(mask & ((1U << Lane()) - 1)); }

  // The first `count` waiting groups, 16 at a time: four lanes a group, twice.
  __device__ void ReadGroups(int count, float bound) {
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
      for (int j = 0; j < 2; ++j) AddCandidates(group[j], values[j], bound);
    }
  }
  __device__ void AddCandidates(int group, const float4& values, float bound) {
    const float v[4] = {values.x, values.y, values.z, values.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int id = GroupColumn(group, Lane() % 4 * 4 + i);
      const bool wanted = group >= 0 && id < p_.V && v[i] >= bound;
      const uint32_t mask = __ballot_sync(kAll, wanted);
      // Ranked by the rounded log-probability: what the caller sees as equal is ordered as promised.
      if (wanted) waiting_.candidates[candidates_ + Rank(mask)] = {v[i] - log_sum_, id};
      candidates_ += __popc(mask);
    }
    __syncwarp();
    while (candidates_ >= 32) {  // from the end, so that nothing needs to move
      candidates_ -= 32;
      MergeFrom(candidates_, 32);
    }
  }
  __device__ void Merge(int count) {
    if (count > 0) MergeFrom(0, count);
    candidates_ = 0;
  }
  // Everyone's place is the number of those before it.
  __device__ void MergeFrom(int first, int count) {
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
  const float log_sum_;
  Waiting& waiting_;
  Best best_{-INFINITY, kNobody};
  int filled_ = 0, candidates_ = 0, groups_ = 0;
};

__global__ void __launch_bounds__(kWarps * 32) FinishTopKKernel(const __grid_constant__ TopKParameters p) {
  __shared__ Waiting waiting[kWarps];
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= (p.count == nullptr ? p.rows : min(*p.count - p.first_row, p.rows))) return;
  const int groups = p.segments * kSegmentGroups;
  const float* maxima = p.maxima + int64_t{row} * groups;
  float own = -INFINITY;
  for (int i = Lane(); i < groups; i += 32) own = fmaxf(own, maxima[i]);
  const float log_sum = LogSumExp(p.sums + row, p.rows, p.segments);
  // k lanes have a column that reaches this. What was not kept has at least k columns before it as well.
  const float bound = KthLargest(own, p.k) - kSlack;
  Selection selection(p, p.kept + int64_t{row} * groups * kGroup, log_sum, waiting[threadIdx.x / 32]);
  for (int first = 0; first < groups; first += 32) {
    const int group = first + Lane();
    const float maximum = group < groups ? maxima[group] : -INFINITY;
    selection.AddGroups(group, maximum > -INFINITY && maximum >= bound, bound);
  }
  selection.Finish(bound, p.logp + int64_t{row} * p.k, p.ids + int64_t{row} * p.k);
}

// ---- targets -------------------------------------------------------------------------------------------------------

template <typename T>
__device__ inline float Dot(const T* a, const T* b, int K) {
  float sum = 0;
  for (int k = 8 * Lane(); k < K; k += 8 * 32) {
    alignas(16) T x[8], y[8];
    *reinterpret_cast<uint4*>(x) = *reinterpret_cast<const uint4*>(a + k);
    *reinterpret_cast<uint4*>(y) = *reinterpret_cast<const uint4*>(b + k);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum = fmaf(ToFloat(x[i]), ToFloat(y[i]), sum);
  }
  return WarpSum(sum);
}

template <typename T>
__global__ void __launch_bounds__(kWarps * 32) FinishTargetsKernel(const __grid_constant__ TargetParameters p) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int target = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (target >= (p.target_count == nullptr ? p.targets : min(*p.target_count, p.targets))) return;
  const int row = p.target_rows[target], id = p.target_ids[target];
  if (row < 0 || row >= (p.count == nullptr ? p.rows : min(*p.count, p.rows))) return;
  float logp = -INFINITY;
  if (id >= 0 && id < p.V) {
    const T* rounded = static_cast<const T*>(p.rounded) + int64_t{row} * p.K;
    float logit = Dot(rounded, static_cast<const T*>(p.w) + int64_t{id} * p.K, p.K);
    if (p.bias != nullptr) logit += p.bias[id];
    if (id == p.blank) logit -= p.penalty;
    // Two orders of sums: a certain target could otherwise be a little more than certain.
    logp = fminf(logit - LogSumExp(p.sums + row, p.rows, p.segments), 0.0F);
  }
  if (Lane() == 0) p.logp[target] = logp;
}

LaunchShape ShapeFor(int count, bool dependent) {
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>((count + kWarps - 1) / kWarps));
  shape.block = dim3(kWarps * 32);
  shape.dependent = dependent;
  return shape;
}

}  // namespace

Status LaunchFinishTopK(const TopKParameters& parameters, bool dependent, cudaStream_t stream) {
  return Launch(FinishTopKKernel, ShapeFor(parameters.rows, dependent), stream, parameters);
}

Status LaunchFinishTargets(HalfType type, const TargetParameters& parameters, bool dependent, cudaStream_t stream) {
  const auto kernel = type == HalfType::kF16 ? FinishTargetsKernel<__half> : FinishTargetsKernel<__nv_bfloat16>;
  return Launch(kernel, ShapeFor(parameters.targets, dependent), stream, parameters);
}

}  // namespace ting::cuda::head
