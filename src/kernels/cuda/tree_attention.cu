// src/kernels/cuda/tree_attention.cu
// SPDX-License-Identifier: Apache-2.0
//
// Tree attention: a launch that stores k and v of every row, and one in which a warp has a row and a head. kLanes lanes
// have eight columns each of one ancestor, so a warp reads 32 / kLanes ancestors at once, and four of those before it
// needs the first: the pool is read in a random order, and a row has a few tens of ancestors. Each group of lanes keeps
// running sums of its ancestors; they are merged at the end. No tensor cores: every row has its own keys.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/ragged_attention.cuh"
#include "kernels/cuda/tree_attention.h"

namespace ting::cuda {
namespace {

constexpr int kStoreThreads = 128, kWarps = 4;
constexpr int kVector = 8;  // columns of a lane
constexpr int kAtOnce = 4;  // ancestors of a group of lanes that are loaded together

// Eight columns as they lie in memory.
template <typename T>
struct Columns;
template <typename T>
requires(sizeof(T) == 2) struct Columns<T> {
  uint4 raw = {0, 0, 0, 0};

  __device__ void Load(const T* p, int, bool) { raw = *reinterpret_cast<const uint4*>(p); }
  __device__ void To(float (&x)[kVector]) const {
    T values[kVector];
    memcpy(values, &raw, sizeof raw);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = ToFloat(values[i]);
  }
};
template <>
struct Columns<float> {
  float values[kVector] = {};

  __device__ void Load(const float* p, int width, bool aligned) {
    if (aligned) {
      memcpy(&values[0], __builtin_assume_aligned(p, 16), 32);
      return;
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) values[i] = i < width ? p[i] : 0.0F;
  }
  __device__ void To(float (&x)[kVector]) const {
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = values[i];
  }
};

template <typename T>
__device__ inline void StoreColumns(T* p, const float (&x)[kVector], int width, bool aligned) {
  if constexpr (sizeof(T) == 2) {
    *reinterpret_cast<uint4*>(p) = {Pack2<T>(x[0], x[1]), Pack2<T>(x[2], x[3]), Pack2<T>(x[4], x[5]),
                                    Pack2<T>(x[6], x[7])};
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (i < width) p[i] = x[i];
    }
  }
}

// Block: a row. k and v lie side by side in qkv as in the pool.
template <typename Word>
__global__ void __launch_bounds__(kStoreThreads) StoreKeysKernel(const __grid_constant__ TreeAttention p, int words) {
  WaitForPreviousKernel();
  LetNextKernelStart();
  const int row = blockIdx.x;
  if (row >= *p.num_rows) return;
  const Word* source = reinterpret_cast<const Word*>(static_cast<const char*>(p.k) + row * p.qkv_stride * p.item_bytes);
  Word* target = reinterpret_cast<Word*>(static_cast<char*>(p.pool) + p.slots[row] * p.pool_stride * p.item_bytes);
  for (int i = threadIdx.x; i < words; i += kStoreThreads) target[i] = source[i];
}

template <typename T, int kLanes>
__global__ void __launch_bounds__(kWarps * 32) TreeAttentionKernel(const __grid_constant__ TreeAttention p) {
  constexpr int kGroups = 32 / kLanes;
  WaitForPreviousKernel();
  LetNextKernelStart();
  const int lane = threadIdx.x % 32, group = lane / kLanes;
  const int task = blockIdx.x * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int row = task / p.heads, head = task % p.heads;
  if (row >= *p.num_rows) return;

  const int first_column = lane % kLanes * kVector;
  const int width = p.head_width - first_column;  // of this lane; may be none
  const int64_t column = head * p.head_width + first_column;
  float q[kVector] = {};
  if (width > 0) {
    Columns<T> columns;
    columns.Load(static_cast<const T*>(p.q) + row * p.qkv_stride + column, width, p.aligned);
    columns.To(q);
  }
  const T* keys = static_cast<const T*>(p.pool) + column;
  const T* values = keys + p.heads * p.head_width;

  float largest = -INFINITY, sum = 0, o[kVector] = {};
  const int end = p.ancestor_offsets[row + 1];
  for (int first = p.ancestor_offsets[row]; first < end; first += 32) {
    const int count = min(end - first, 32);
    const int own = lane < count ? p.ancestors[first + lane] : 0;
    for (int step = 0; step < count; step += kGroups * kAtOnce) {
      Columns<T> k[kAtOnce], v[kAtOnce];
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        const int j = step + n * kGroups + group;
        const int64_t ancestor = __shfl_sync(0xFFFFFFFF, own, j % 32) * p.pool_stride;
        if (width > 0 && j < count) {
          k[n].Load(keys + ancestor, width, p.aligned);
          v[n].Load(values + ancestor, width, p.aligned);
        }
      }
      float s[kAtOnce], newest = largest;
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        float x[kVector];
        k[n].To(x);
        s[n] = 0;
#pragma unroll
        for (int i = 0; i < kVector; ++i) s[n] = fmaf(q[i], x[i], s[n]);
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset /= 2) s[n] += __shfl_xor_sync(0xFFFFFFFF, s[n], offset);
        s[n] = step + n * kGroups + group < count ? s[n] * p.scale_log2 : -INFINITY;
        newest = fmaxf(newest, s[n]);
      }
      const float base = newest == -INFINITY ? 0.0F : newest;
      const float decay = Exp2(largest - base);
      largest = newest;
      sum *= decay;
#pragma unroll
      for (int i = 0; i < kVector; ++i) o[i] *= decay;
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        const float weight = Exp2(s[n] - base);
        float x[kVector];
        v[n].To(x);
        sum += weight;
#pragma unroll
        for (int i = 0; i < kVector; ++i) o[i] = fmaf(weight, x[i], o[i]);
      }
    }
  }

  float all = largest;
#pragma unroll
  for (int offset = kLanes; offset < 32; offset *= 2) all = fmaxf(all, __shfl_xor_sync(0xFFFFFFFF, all, offset));
  const float scale = Exp2(largest - (all == -INFINITY ? 0.0F : all));
  sum *= scale;
#pragma unroll
  for (int offset = kLanes; offset < 32; offset *= 2) sum += __shfl_xor_sync(0xFFFFFFFF, sum, offset);
  const float inverse = sum > 0 ? 1.0F / sum : 0.0F;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    o[i] *= scale;
#pragma unroll
    for (int offset = kLanes; offset < 32; offset *= 2) o[i] += __shfl_xor_sync(0xFFFFFFFF, o[i], offset);
    o[i] *= inverse;
  }
  if (group != 0 || width <= 0) return;
  StoreColumns(static_cast<T*>(p.context) + row * p.context_stride + column, o, width, p.aligned);
}

Status LaunchStore(const TreeAttention& problem, bool dependent, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(problem.max_rows);
  shape.block = dim3(kStoreThreads);
  shape.dependent = dependent;
  const int bytes = 2 * problem.heads * problem.head_width * problem.item_bytes;
  if (problem.aligned) return Launch(StoreKeysKernel<uint4>, shape, stream, problem, bytes / 16);
  return Launch(StoreKeysKernel<float>, shape, stream, problem, bytes / 4);
}

template <typename T, int kLanes>
Status LaunchLanes(const TreeAttention& problem, bool dependent, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3((problem.max_rows * problem.heads + kWarps - 1) / kWarps);
  shape.block = dim3(kWarps * 32);
  shape.dependent = dependent;
  return Launch(TreeAttentionKernel<T, kLanes>, shape, stream, problem);
}

template <typename T>
Status LaunchType(const TreeAttention& problem, bool dependent, cudaStream_t stream) {
  if (problem.head_width <= 64) return LaunchLanes<T, 8>(problem, dependent, stream);
  if constexpr (sizeof(T) == 4) {
    if (problem.head_width > 128) return LaunchLanes<T, 32>(problem, dependent, stream);
  }
  return LaunchLanes<T, 16>(problem, dependent, stream);
}

}  // namespace

Status LaunchTree(DType dtype, const TreeAttention& problem, bool dependent, cudaStream_t stream) {
  if (Status status = LaunchStore(problem, dependent, stream); !status.ok()) return status;
  if (dtype == DType::kF16) return LaunchType<__half>(problem, dependent, stream);
  if (dtype == DType::kBF16) return LaunchType<__nv_bfloat16>(problem, dependent, stream);
  return LaunchType<float>(problem, dependent, stream);
}

}  // namespace ting::cuda
