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
constexpr int kSlab = 32 * kVector;
constexpr int kHeadLanes = 8;    // of a head of 64 columns in a slab
constexpr int kTogether = 4;     // ancestors of a warp that has a slab, loaded together
constexpr int kRowsOfBlock = 4;  // of such warps
constexpr int kAtOnce = 4;       // ancestors of a group of lanes that are loaded together

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

// Warp: a row. k and v lie side by side in qkv as in the pool.
template <typename Word>
__global__ void __launch_bounds__(kStoreThreads) StoreKeysKernel(const __grid_constant__ TreeAttention p, int words) {
  const int row = blockIdx.x * (kStoreThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const int num_rows = *p.num_rows, slot = row < p.max_rows ? p.slots[row] : 0;
  WaitForPreviousKernel();
  if (row >= num_rows) return;
  const Word* source = reinterpret_cast<const Word*>(static_cast<const char*>(p.k) + row * p.qkv_stride * p.item_bytes);
  Word* target = reinterpret_cast<Word*>(static_cast<char*>(p.pool) + slot * p.pool_stride * p.item_bytes);
  for (int i = threadIdx.x % 32; i < words; i += 32) target[i] = source[i];
}

template <typename T, int kLanes>
__global__ void __launch_bounds__(kWarps * 32) TreeAttentionKernel(const __grid_constant__ TreeAttention p) {
  constexpr int kGroups = 32 / kLanes;
  WaitForPreviousKernel();
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

// In one instruction; the compiler would take five.
template <typename T>
__device__ inline const T* RowAt(const T* first, uint32_t row, uint32_t stride_bytes) {
  uint64_t address;
  asm("mad.wide.u32 %0, %1, %2, %3;"
      : "=l"(address)
      : "r"(row), "r"(stride_bytes), "l"(reinterpret_cast<uint64_t>(first)));
  return static_cast<const T*>(__cvta_global_to_generic(address));
}

// The sums of four scores over the kHeadLanes lanes of a head; a lane gets that of ancestor OwnOfFour.
__device__ inline float SumFour(const float (&s)[kTogether], int lane) {
  const bool upper = (lane & (kHeadLanes / 2)) != 0, odd = (lane & (kHeadLanes / 4)) != 0;
  float pair[2], sum;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    pair[i] = (upper ? s[2 + i] : s[i]) + __shfl_xor_sync(0xFFFFFFFF, upper ? s[i] : s[2 + i], kHeadLanes / 2);
  }
  sum = (odd ? pair[1] : pair[0]) + __shfl_xor_sync(0xFFFFFFFF, odd ? pair[0] : pair[1], kHeadLanes / 4);
#pragma unroll
  for (int offset = kHeadLanes / 8; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xFFFFFFFF, sum, offset);
  return sum;
}
__device__ inline int OwnOfFour(int lane) {
  return ((lane & (kHeadLanes / 2)) != 0 ? 2 : 0) + ((lane & (kHeadLanes / 4)) != 0 ? 1 : 0);
}

// Block (rows, slab): a warp has a row's kSlab columns of whole heads, so that each load of an
// ancestor is a piece of 512 bytes. Rows that follow one another share most ancestors: they are neighbours in a block,
// which finds them in the cache of its multiprocessor. What rows there are is read before the previous kernel has
// ended.
template <typename T>
__global__ void __launch_bounds__(kRowsOfBlock * 32) TreeSlabKernel(const __grid_constant__ TreeAttention p) {
  const int lane = threadIdx.x % 32, row = blockIdx.x * kRowsOfBlock + static_cast<int>(threadIdx.x) / 32;
  const int num_rows = *p.num_rows;
  int begin = 0, count = 0;
  if (row < p.max_rows) begin = p.ancestor_offsets[row], count = p.ancestor_offsets[row + 1] - begin;
  if (row >= num_rows) count = 0;
  count = __reduce_max_sync(0xFFFFFFFF, count);  // tells the compiler that the warp agrees
  const int32_t* ancestors = p.ancestors + begin;
  uint32_t own = count > 0 ? ancestors[min(lane, count - 1)] : 0;
  WaitForPreviousKernel();
  if (row >= num_rows) return;

  const int64_t column = blockIdx.y * kSlab + lane * kVector;
  const T* keys = static_cast<const T*>(p.pool) + column;
  const T* values = keys + p.heads * p.head_width;
  const auto stride = static_cast<uint32_t>(p.pool_stride * sizeof(T));
  float largest = -INFINITY, sum = 0, o[kVector] = {};  // sum: of every fourth ancestor
  Columns<T> query, k[kTogether], v[kTogether];
#pragma unroll 1
  for (int first = -kTogether;;) {  // what is loaded at its end is used in the next turn: so no load waits for another
    if (first >= 0) {
      float q[kVector], s[kTogether] = {};
      query.To(q);
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        float x[kVector];
        k[n].To(x);
#pragma unroll
        for (int i = 0; i < kVector; ++i) s[n] = fmaf(q[i], x[i], s[n]);
      }
      const float total = SumFour(s, lane) * p.scale_log2;
      const float score = first + OwnOfFour(lane) < count ? total : -INFINITY;
      float newest = fmaxf(score, __shfl_xor_sync(0xFFFFFFFF, score, kHeadLanes / 2));
      newest = fmaxf(largest, fmaxf(newest, __shfl_xor_sync(0xFFFFFFFF, newest, kHeadLanes / 4)));
      const float decay = Exp2(largest - newest), own_weight = Exp2(score - newest);
      largest = newest;
      sum = fmaf(sum, decay, own_weight);
#pragma unroll
      for (int i = 0; i < kVector; ++i) o[i] *= decay;
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const float weight =
            __shfl_sync(0xFFFFFFFF, own_weight, n / 2 * (kHeadLanes / 2) + n % 2 * (kHeadLanes / 4), kHeadLanes);
        float x[kVector];
        v[n].To(x);
#pragma unroll
        for (int i = 0; i < kVector; ++i) o[i] = fmaf(weight, x[i], o[i]);
      }
    }
    first += kTogether;
    if (first >= count) break;
    if (first == 0) query.Load(static_cast<const T*>(p.q) + row * p.qkv_stride + column, kVector, true);
    if (first % 32 == 0 && first > 0) own = ancestors[min(first + lane, count - 1)];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {  // beyond the last one the last one again
      const uint32_t place = __shfl_sync(0xFFFFFFFF, own, (first + n) % 32);
      k[n].Load(RowAt(keys, place, stride), kVector, true);
      v[n].Load(RowAt(values, place, stride), kVector, true);
    }
  }
  sum += __shfl_xor_sync(0xFFFFFFFF, sum, kHeadLanes / 2);
  sum += __shfl_xor_sync(0xFFFFFFFF, sum, kHeadLanes / 4);
  const float inverse = sum > 0 ? __fdividef(1.0F, sum) : 0.0F;
#pragma unroll
  for (int i = 0; i < kVector; ++i) o[i] *= inverse;
  StoreColumns(static_cast<T*>(p.context) + row * p.context_stride + column, o, kVector, true);
}

Status LaunchStore(const TreeAttention& problem, bool dependent, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3((problem.max_rows + kStoreThreads / 32 - 1) / (kStoreThreads / 32));
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
Status LaunchSlabs(const TreeAttention& problem, bool dependent, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3((problem.max_rows + kRowsOfBlock - 1) / kRowsOfBlock, problem.heads * problem.head_width / kSlab);
  shape.block = dim3(kRowsOfBlock * 32);
  shape.dependent = dependent;
  return Launch(TreeSlabKernel<T>, shape, stream, problem);
}

template <typename T>
Status LaunchType(const TreeAttention& problem, bool dependent, cudaStream_t stream) {
  if constexpr (sizeof(T) == 2) {
    const bool slabs = problem.head_width == 8 * kHeadLanes && problem.heads * problem.head_width % kSlab == 0;
    if (slabs) return LaunchSlabs<T>(problem, dependent, stream);
  }
  if (problem.head_width <= 64) return LaunchLanes<T, 8>(problem, dependent, stream);
  if constexpr (sizeof(T) == 4) {
    if (problem.head_width > 128) return LaunchLanes<T, 32>(problem, dependent, stream);
  }
  return LaunchLanes<T, 16>(problem, dependent, stream);
}

}  // namespace

Status LaunchTree(DType dtype, const TreeAttention& problem, bool dependent, cudaStream_t stream) {
  if (problem.store) {
    if (Status status = LaunchStore(problem, dependent, stream); !status.ok()) return status;
  }
  if (dtype == DType::kF16) return LaunchType<__half>(problem, dependent, stream);
  if (dtype == DType::kBF16) return LaunchType<__nv_bfloat16>(problem, dependent, stream);
  return LaunchType<float>(problem, dependent, stream);
}

}  // namespace ting::cuda
