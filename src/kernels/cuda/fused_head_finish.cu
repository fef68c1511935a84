// src/kernels/cuda/fused_head_finish.cu
// SPDX-License-Identifier: Apache-2.0
//
// What follows the product of fused_head.h, a warp a row or a target: the log of the sum of exponentials, of the
// segments in a fixed order, and the k best of the columns that were kept, or the logit of the target.
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fused_head_selection.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"

namespace ting::cuda::head {
namespace {

constexpr int kMaxWarps = 8;  // of a block

__device__ inline int WarpTask() { return static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32); }

// The sums of a row's segments, `stride` apart; a lane takes every 32nd. The first are on their way from the start.
class RowSum {
 public:
  __device__ RowSum(const float2* sums, int stride, int segments) : sums_(sums), stride_(stride), segments_(segments) {
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
    const float scale = LargestOfWarp(total.x);
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
  const int stride_, segments_;
  float2 read_[kTogether];
};

// ---- the k best ----------------------------------------------------------------------------------------------------

// The number of rows is read before the product has ended, what the product wrote is asked for at once. Indices fit
// 31 bits: see MaxTopKRows.
__global__ void __launch_bounds__(kMaxWarps * 32) FinishTopKKernel(const __grid_constant__ TopKParameters p) {
  extern __shared__ __align__(16) uint8_t memory[];
  Waiting& waiting = reinterpret_cast<Waiting*>(memory)[threadIdx.x / 32];
  const int row = WarpTask(), limit = p.count == nullptr ? p.rows : min(p.rows, *p.count - p.first_row);
  WaitForPreviousKernel();
  if (row >= limit) return;
  RowSum sum(p.sums + row, p.rows, p.segments);
  const int count = p.segments * kSegmentGroups;
  const KeptRow kept{p.groups + row * count, p.kept + row * count * kGroup, count};
  Selection selection(kept, p.k, waiting);
#pragma unroll 1
  for (int first = 0; first < count; first += kChunk) {
    LaneGroups groups;
    groups.Fetch(kept.groups, first, count);
    if (first == 0) selection.Start(sum.Log());
    selection.Add(groups);
  }
  if (Lane() >= p.k) return;
  // Columns past V, whose logits are -inf, come after all others.
  const Best best = selection.best();
  p.logp[row * p.k + Lane()] = best.logp;
  p.ids[row * p.k + Lane()] = best.id < p.V ? best.id : kNobody;
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
__global__ void __launch_bounds__(kMaxWarps * 32) FinishTargetsKernel(const __grid_constant__ TargetParameters p) {
  const int target = WarpTask();
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

// A warp a task; few of a block with few tasks, so that they have more multiprocessors.
LaunchShape ShapeFor(int tasks, size_t warp_bytes, bool dependent) {
  constexpr int kMultiprocessors = 132;
  int warps = 1;
  while (warps < kMaxWarps && tasks > warps * kMultiprocessors) warps *= 2;
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>((tasks + warps - 1) / warps));
  shape.block = dim3(static_cast<unsigned>(warps * 32));
  shape.shared_bytes = static_cast<uint32_t>(static_cast<size_t>(warps) * warp_bytes);
  shape.dependent = dependent;
  return shape;
}

}  // namespace

Status LaunchFinishTopK(const TopKParameters& parameters, bool dependent, cudaStream_t stream) {
  return Launch(FinishTopKKernel, ShapeFor(parameters.rows, sizeof(Waiting), dependent), stream, parameters);
}

Status LaunchFinishTargets(DType type, const TargetParameters& parameters, bool dependent, cudaStream_t stream) {
  const auto kernel = type == DType::kF16 ? FinishTargetsKernel<__half> : FinishTargetsKernel<__nv_bfloat16>;
  return Launch(kernel, ShapeFor(parameters.targets, 0, dependent), stream, parameters);
}

}  // namespace ting::cuda::head
