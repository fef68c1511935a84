// src/kernels/cuda/softmax_kernels.cu
// SPDX-License-Identifier: Apache-2.0
//
// Log-softmax over a vocabulary and what is read from it. One warp a row; a row is read once from memory and kept in
// shared memory, where the k selections find it again (a vocabulary too large for that is read again from memory).
#include <algorithm>
#include <limits>

#include "base/return_if_error.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_kernels.h"

namespace ting::cuda {
namespace {

constexpr int kRowsABlock = 4;
constexpr uint32_t kMaxShared = 200 * 1024;

struct Logits {
  const float* data;
  int64_t stride;
  const float* bias;
  int V;
  int blank;
  float penalty;

  __device__ float At(int64_t row, int v) const {
    return data[row * stride + v] + (bias == nullptr ? 0.0F : bias[v]) - (v == blank ? penalty : 0.0F);
  }
};

__device__ inline int64_t RowsInUse(const RowRange& range) {
  return range.count == nullptr ? range.rows : min(range.rows, int64_t{*range.count} - range.first);
}

// log(sum over v of exp(logit)) of a row: each lane's maximum and sum over its columns in their order, then the lanes'.
template <typename Values>
__device__ inline float LogSumExp(const Values& values, int V) {
  float highest = -INFINITY;
  for (int v = threadIdx.x % 32; v < V; v += 32) highest = fmaxf(highest, values(v));
  highest = WarpMax(highest);
  float sum = 0;
  for (int v = threadIdx.x % 32; v < V; v += 32) sum += expf(values(v) - highest);
  return highest + logf(WarpSum(sum));
}

struct Best {
  float value;
  int id;
};
__device__ inline bool Before(Best a, Best b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }
__device__ inline Best WarpBest(Best best) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const Best other{__shfl_xor_sync(0xFFFFFFFF, best.value, offset), __shfl_xor_sync(0xFFFFFFFF, best.id, offset)};
    if (Before(other, best)) best = other;
  }
  return best;
}

// The best of a lane's columns that comes after `last` in the order of results: no column needs to be struck out.
template <typename Values>
__device__ inline Best NextBest(const Values& values, int V, Best last) {
  Best best{-INFINITY, std::numeric_limits<int>::max()};
  for (int v = threadIdx.x % 32; v < V; v += 32) {
    const Best candidate{values(v), v};
    if (Before(last, candidate) && Before(candidate, best)) best = candidate;
  }
  return best;
}

template <bool kShared>
__global__ void TopKKernel(Logits logits, RowRange range, int k, float* logp, int32_t* ids) {
  extern __shared__ float cache[];
  const int64_t row = int64_t{blockIdx.x} * kRowsABlock + threadIdx.x / 32;
  if (row >= RowsInUse(range)) return;
  const int lane = threadIdx.x % 32;
  float* kept = cache + threadIdx.x / 32 * logits.V;
  if constexpr (kShared) {
    for (int v = lane; v < logits.V; v += 32) kept[v] = logits.At(row, v);  // a lane reads only what it wrote
  }
  const auto logit = [&](int v) { return kShared ? kept[v] : logits.At(row, v); };
  const float log_sum = LogSumExp(logit, logits.V);
  // Ranked by the rounded log-probability: what the caller sees as equal is ordered as promised.
  const auto values = [&](int v) { return logit(v) - log_sum; };
  Best mine = NextBest(values, logits.V, {INFINITY, -1});
  for (int i = 0; i < k; ++i) {
    const Best best = WarpBest(mine);
    if (lane == 0) {
      logp[row * k + i] = best.value;
      ids[row * k + i] = best.id;
    }
    if (mine.id == best.id) mine = NextBest(values, logits.V, best);
    __syncwarp();
  }
}

__global__ void LogSoftmaxKernel(Logits logits, RowRange range, float* logp) {
  const int64_t row = int64_t{blockIdx.x} * kRowsABlock + threadIdx.x / 32;
  if (row >= RowsInUse(range)) return;
  const auto values = [&](int v) { return logits.At(row, v); };
  const float log_sum = LogSumExp(values, logits.V);
  for (int v = threadIdx.x % 32; v < logits.V; v += 32) logp[row * logits.V + v] = values(v) - log_sum;
}

// First target whose row is at least `row`.
__device__ inline int64_t FirstTarget(const int32_t* rows, int64_t targets, int64_t row) {
  int64_t low = 0, high = targets;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (rows[middle] < row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

__global__ void TargetKernel(Logits logits, RowRange range, const int32_t* target_rows, const int32_t* ids,
                             RowRange targets, float* logp) {
  const int64_t row = int64_t{blockIdx.x} * kRowsABlock + threadIdx.x / 32;
  if (row >= RowsInUse(range)) return;
  const int64_t in_use = RowsInUse(targets);
  const int64_t begin = FirstTarget(target_rows, in_use, range.first + row);
  const int64_t end = FirstTarget(target_rows, in_use, range.first + row + 1);
  if (begin == end) return;
  const auto values = [&](int v) { return logits.At(row, v); };
  const float log_sum = LogSumExp(values, logits.V);
  for (int64_t g = begin + threadIdx.x % 32; g < end; g += 32) {
    logp[g] = ids[g] < 0 || ids[g] >= logits.V ? -INFINITY : values(ids[g]) - log_sum;
  }
}

LaunchShape RowLaunch(int64_t rows, uint32_t shared_bytes = 0) {
  return {dim3(static_cast<unsigned>((rows + kRowsABlock - 1) / kRowsABlock)), dim3(kRowsABlock * 32), shared_bytes};
}

}  // namespace

Status TopKRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                RowRange range, int64_t k, float* logp, int32_t* ids, cudaStream_t stream) {
  if (range.rows == 0 || k == 0) return Status();
  const Logits view{logits, stride, bias, static_cast<int>(V), static_cast<int>(blank), penalty};
  const auto bytes = static_cast<uint32_t>(kRowsABlock * V * sizeof(float));
  if (bytes > kMaxShared) {
    return Launch(TopKKernel<false>, RowLaunch(range.rows), stream, view, range, static_cast<int>(k), logp, ids);
  }
  TING_RETURN_IF_ERROR(AllowShared(TopKKernel<true>, bytes));
  return Launch(TopKKernel<true>, RowLaunch(range.rows, bytes), stream, view, range, static_cast<int>(k), logp, ids);
}

Status LogSoftmaxRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                      RowRange range, float* logp, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  const Logits view{logits, stride, bias, static_cast<int>(V), static_cast<int>(blank), penalty};
  return Launch(LogSoftmaxKernel, RowLaunch(range.rows), stream, view, range, logp);
}

Status TargetRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                  RowRange range, const int32_t* rows, const int32_t* ids, RowRange targets, float* logp,
                  cudaStream_t stream) {
  if (range.rows == 0 || targets.rows == 0) return Status();
  const Logits view{logits, stride, bias, static_cast<int>(V), static_cast<int>(blank), penalty};
  return Launch(TargetKernel, RowLaunch(range.rows), stream, view, range, rows, ids, targets, logp);
}

}  // namespace ting::cuda
