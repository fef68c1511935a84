// src/kernels/cuda/softmax_kernels.cu
// SPDX-License-Identifier: Apache-2.0
//
// Log-softmax over a vocabulary and what is read from it. A block takes a row; each thread keeps its columns in
// registers, read from memory once with all loads in flight, because everything after that (maximum, sum, selection)
// looks at them again. The k best: the k-th best of the threads' own maxima bounds what can be among them from below, so
// a few columns remain, and each of these counts those before it. Where too many remain (ties) or k is large, every warp
// selects its own k best, one after the other, and one warp merges the lists. Vocabularies too large for registers are
// read again from memory.
#include <algorithm>

#include "base/return_if_error.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_kernels.h"

namespace ting::cuda {
namespace {

constexpr int kColumns = 40;  // of a thread, in registers
constexpr int kMaxWarps = 16;
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

// The columns threadIdx.x, threadIdx.x + blockDim.x, … of a row, in registers; past V: -inf.
struct RegisterRow {
  float values[kColumns];

  __device__ void Load(const Logits& logits, int64_t row) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int v = static_cast<int>(threadIdx.x) + i * static_cast<int>(blockDim.x);
      values[i] = v < logits.V ? logits.At(row, v) : -INFINITY;
    }
  }
  template <typename Body>
  __device__ void ForEach(const Body& body) const {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) body(values[i], static_cast<int>(threadIdx.x) + i * static_cast<int>(blockDim.x));
  }
  __device__ void Subtract(float shift) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) values[i] -= shift;
  }
};
// The same, read again each time.
struct MemoryRow {
  Logits logits;
  int64_t row;
  float shift;

  __device__ void Load(const Logits& source, int64_t number) { logits = source, row = number, shift = 0; }
  template <typename Body>
  __device__ void ForEach(const Body& body) const {
    for (int v = threadIdx.x; v < logits.V; v += blockDim.x) body(logits.At(row, v) - shift, v);
  }
  __device__ void Subtract(float value) { shift = value; }
};

// A value of every warp in shared memory, reduced in their order by every thread.
template <typename Combine>
__device__ inline float AcrossWarps(float value, float* shared, const Combine& combine) {
  const int warps = blockDim.x / 32;
  __syncthreads();  // the last use of `shared` is over
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  float result = shared[0];
  for (int w = 1; w < warps; ++w) result = combine(result, shared[w]);
  return result;
}

// log(sum over v of exp(logit)): each thread over its columns in their order, then lanes, then warps. `own`: the maximum
// of the thread's columns.
template <typename Row>
__device__ inline float LogSumExp(const Row& row, float* shared, float& own) {
  own = -INFINITY;
  row.ForEach([&](float value, int) { own = fmaxf(own, value); });
  const float highest = AcrossWarps(WarpMax(own), shared, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0;
  row.ForEach([&](float value, int) { sum += __expf(value - highest); });
  return highest + logf(AcrossWarps(WarpSum(sum), shared, [](float a, float b) { return a + b; }));
}

struct Best {
  float value;
  int id;
};
constexpr int kNobody = 0x7FFFFFFF;
__device__ inline bool Before(Best a, Best b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }
__device__ inline Best WarpBest(Best best) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const Best other{__shfl_xor_sync(0xFFFFFFFF, best.value, offset), __shfl_xor_sync(0xFFFFFFFF, best.id, offset)};
    if (Before(other, best)) best = other;
  }
  return best;
}

// The best of a thread's columns that comes after `last` in the order of results: no column needs to be struck out.
template <typename Row>
__device__ inline Best NextBest(const Row& row, int V, Best last) {
  Best best{-INFINITY, kNobody};
  row.ForEach([&](float value, int v) {
    const Best candidate{value, v};
    if (v < V && Before(last, candidate) && Before(candidate, best)) best = candidate;
  });
  return best;
}

// The k best of a warp's columns to `out`, in order; those that do not exist have id kNobody.
template <typename Row>
__device__ inline void SelectInWarp(const Row& row, int V, int k, Best* out) {
  Best mine = NextBest(row, V, {INFINITY, -1});
  for (int i = 0; i < k; ++i) {
    const Best best = WarpBest(mine);
    if (threadIdx.x % 32 == 0) out[i] = best;
    if (best.id != kNobody && mine.id == best.id) mine = NextBest(row, V, best);
    __syncwarp();
  }
}

// The k best of the warps' ordered lists: lane w follows list w.
__device__ inline void MergeLists(const Best* lists, int warps, int k, float* logp, int32_t* ids) {
  const int lane = threadIdx.x;
  int at = 0;
  Best head = lane < warps ? lists[lane * k] : Best{-INFINITY, kNobody};
  for (int i = 0; i < k; ++i) {
    const Best best = WarpBest(head);
    if (lane == 0) logp[i] = best.value, ids[i] = best.id;
    if (lane < warps && head.id == best.id) head = ++at < k ? lists[lane * k + at] : Best{-INFINITY, kNobody};
    __syncwarp();
  }
}

constexpr int kMaxCandidates = 256;

struct Selection {
  alignas(16) float maxima[kMaxWarps * 32];  // of the threads' columns
  Best candidates[kMaxCandidates];
  float bound;
  int count;
};

// How many of the block's maxima come before thread `thread`'s, equal ones in the order of threads.
__device__ inline int RankOfMaximum(const float* maxima, int thread, int threads) {
  const float mine = maxima[thread];
  int before = 0;
  for (int i = 0; i < threads; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(maxima + i);
    const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) before += values[j] > mine || (values[j] == mine && i + j < thread);
  }
  return before;
}

// The k best (k at most blockDim.x) in order; `own` is the maximum of the thread's columns. False, for all threads, where
// too many columns reach the bound.
template <typename Row>
__device__ inline bool SelectByBound(const Row& row, float own, int V, int k, Selection& s, float* logp, int32_t* ids) {
  const int thread = threadIdx.x;
  s.maxima[thread] = own;
  if (thread == 0) s.count = 0;
  __syncthreads();
  if (RankOfMaximum(s.maxima, thread, blockDim.x) == k - 1) s.bound = own;
  __syncthreads();
  const float bound = s.bound;
  if (own >= bound) {  // most threads have nothing
    row.ForEach([&](float value, int v) {
      if (v >= V || !(value >= bound)) return;
      const int at = atomicAdd(&s.count, 1);
      if (at < kMaxCandidates) s.candidates[at] = {value, v};
    });
  }
  __syncthreads();
  const int count = s.count;
  if (count < k || count > kMaxCandidates) return false;
  for (int i = thread; i < count; i += blockDim.x) {
    const Best one = s.candidates[i];
    int rank = 0;
    for (int j = 0; j < count; ++j) rank += Before(s.candidates[j], one);
    if (rank < k) logp[rank] = one.value, ids[rank] = one.id;
  }
  return true;
}

template <typename Row>
__global__ void __launch_bounds__(kMaxWarps * 32)
    TopKKernel(Logits logits, RowRange range, int k, float* logp, int32_t* ids) {
  extern __shared__ Best lists[];  // [warps, k]
  __shared__ float shared[kMaxWarps];
  __shared__ Selection selection;
  const int64_t row = blockIdx.x;
  if (row >= RowsInUse(range)) return;
  Row values;
  values.Load(logits, row);
  // Ranked by the rounded log-probability: what the caller sees as equal is ordered as promised.
  float own;
  const float log_sum = LogSumExp(values, shared, own);
  values.Subtract(log_sum);
  if (k <= static_cast<int>(blockDim.x) &&
      SelectByBound(values, own - log_sum, logits.V, k, selection, logp + row * k, ids + row * k)) {
    return;
  }
  SelectInWarp(values, logits.V, k, lists + threadIdx.x / 32 * k);
  __syncthreads();
  if (threadIdx.x < 32) MergeLists(lists, blockDim.x / 32, k, logp + row * k, ids + row * k);
}

template <typename Row>
__global__ void __launch_bounds__(kMaxWarps * 32) LogSoftmaxKernel(Logits logits, RowRange range, float* logp) {
  __shared__ float shared[kMaxWarps];
  const int64_t row = blockIdx.x;
  if (row >= RowsInUse(range)) return;
  Row values;
  values.Load(logits, row);
  float own;
  values.Subtract(LogSumExp(values, shared, own));
  values.ForEach([&](float value, int v) {
    if (v < logits.V) logp[row * logits.V + v] = value;
  });
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

template <typename Row>
__global__ void __launch_bounds__(kMaxWarps * 32)
    TargetKernel(Logits logits, RowRange range, const int32_t* target_rows, const int32_t* ids, RowRange targets,
                 float* logp) {
  __shared__ float shared[kMaxWarps];
  const int64_t row = blockIdx.x;
  if (row >= RowsInUse(range)) return;
  const int64_t in_use = RowsInUse(targets);
  const int64_t begin = FirstTarget(target_rows, in_use, range.first + row);
  const int64_t end = FirstTarget(target_rows, in_use, range.first + row + 1);
  if (begin == end) return;
  Row values;
  values.Load(logits, row);
  float own;
  const float log_sum = LogSumExp(values, shared, own);
  for (int64_t g = begin + threadIdx.x; g < end; g += blockDim.x) {
    logp[g] = ids[g] < 0 || ids[g] >= logits.V ? -INFINITY : logits.At(row, ids[g]) - log_sum;
  }
}

// Threads a row: as many warps as keep it in registers, or all.
unsigned ThreadsFor(int64_t V) {
  const int64_t warps = (V + 32 * kColumns - 1) / (32 * kColumns);
  return static_cast<unsigned>(32 * std::clamp<int64_t>(warps, 1, kMaxWarps));
}
bool FitsRegisters(int64_t V) { return V <= int64_t{kMaxWarps} * 32 * kColumns; }
LaunchShape RowLaunch(int64_t rows, int64_t V, int64_t k = 0) {
  const unsigned threads = ThreadsFor(V);
  return {dim3(static_cast<unsigned>(rows)), dim3(threads), static_cast<uint32_t>(threads / 32 * k * sizeof(Best))};
}

}  // namespace

Status TopKRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                RowRange range, int64_t k, float* logp, int32_t* ids, cudaStream_t stream) {
  if (range.rows == 0 || k == 0) return Status();
  const Logits view{logits, stride, bias, static_cast<int>(V), static_cast<int>(blank), penalty};
  auto kernel = FitsRegisters(V) ? TopKKernel<RegisterRow> : TopKKernel<MemoryRow>;
  LaunchShape shape = RowLaunch(range.rows, V, k);
  if (shape.shared_bytes > kMaxShared) {  // one warp's list, and columns from memory
    kernel = TopKKernel<MemoryRow>;
    shape.block = dim3(32), shape.shared_bytes = static_cast<uint32_t>(k * sizeof(Best));
  }
  if (shape.shared_bytes > 48 * 1024) TING_RETURN_IF_ERROR(AllowShared(kernel, shape.shared_bytes));
  return Launch(kernel, shape, stream, view, range, static_cast<int>(k), logp, ids);
}

Status LogSoftmaxRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                      RowRange range, float* logp, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  const Logits view{logits, stride, bias, static_cast<int>(V), static_cast<int>(blank), penalty};
  const auto kernel = FitsRegisters(V) ? LogSoftmaxKernel<RegisterRow> : LogSoftmaxKernel<MemoryRow>;
  return Launch(kernel, RowLaunch(range.rows, V), stream, view, range, logp);
}

Status TargetRows(const float* logits, int64_t stride, const float* bias, int64_t V, int64_t blank, float penalty,
                  RowRange range, const int32_t* rows, const int32_t* ids, RowRange targets, float* logp,
                  cudaStream_t stream) {
  if (range.rows == 0 || targets.rows == 0) return Status();
  const Logits view{logits, stride, bias, static_cast<int>(V), static_cast<int>(blank), penalty};
  const auto kernel = FitsRegisters(V) ? TargetKernel<RegisterRow> : TargetKernel<MemoryRow>;
  return Launch(kernel, RowLaunch(range.rows, V), stream, view, range, rows, ids, targets, logp);
}

}  // namespace ting::cuda
