// src/kernels/cuda/warpgroup_attention.cu
// SPDX-License-Identifier: Apache-2.0
//
// Self and cross attention on Hopper for heads of 64 columns and 16-bit operands: one pass over the keys with running
// maxima and sums, products by wgmma. A block is a warpgroup that has 64 rows of one sequence and one head; two blocks
// of kKeys keys are in its shared memory or on their way. Two warpgroups that share the keys were slower in cross
// attention and no faster in self attention (tests/kernels/cuda/attention_kernels_bench.cu, batch 64, H200).
//
// The code is small on purpose: in a model another kernel has run before, so that every block fetches its instructions
// from L2, and with few rows that takes as long as the products. So keys are taken 64 at a time in a loop, although
// 128 would need fewer instructions in all, and keys beyond a sequence's end are masked by the bias alone.
//
// What the kernel before cannot have written (which rows there are, positions, the memory of cross attention) is read
// before it has ended.
//
// Keys are visited in blocks that count from the sequence's start, whatever the number of rows a block has. A block of
// keys that a row does not see multiplies its sums by 1 and adds 0. So a row's bits do not depend on tiles, bounds or
// neighbours.
#include "kernels/cuda/flash_tiles.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warpgroup_attention.h"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda {
namespace {

constexpr int kWidth = 64, kRows = 64;       // of a head, a tile of queries
[[maybe_unused]] constexpr int kKeys = 64;  // of a block of keys
constexpr int kThreads = 128;
[[maybe_unused]] constexpr int kSums = kWidth / 2;  // accumulators of a thread
constexpr uint32_t kTile = 64 * kSwizzleRowBytes;

// Dynamic shared memory: queries, then two stages of keys, values and positions. With positions 56 KB: four blocks a
// multiprocessor to the byte.
template <bool kPositions>
struct Shared {
  static constexpr uint32_t kStage = (kPositions ? 3 : 2) * kTile, kBytes = kTile + kStages * kStage;

  unsigned char* queries;
  __device__ unsigned char* Keys(int stage) const { return queries + kTile + stage * kStage; }
  __device__ unsigned char* Values(int stage) const { return Keys(stage) + kTile; }
  __device__ unsigned char* Positions(int stage) const { return Keys(stage) + 2 * kTile; }
};

// Brings a block's operands to shared memory.
template <typename T, bool kPositions>
class Loader {
 public:
  __device__ Loader(const RaggedAttention& p, const QueryTile& tile, const Shared<kPositions>& shared)
      : p_(p), tile_(tile), shared_(shared), column_(static_cast<int>(blockIdx.y) * kWidth) {}

  __device__ void Queries() const {
    Copy(shared_.queries, static_cast<const T*>(p_.q) + tile_.row * p_.q_stride + column_, p_.q_stride, 0, tile_.count);
  }
  __device__ void Keys(int first, int stage) const {
    const int64_t offset = tile_.key_row * p_.key_stride + column_;
    Copy(shared_.Keys(stage), static_cast<const T*>(p_.k) + offset, p_.key_stride, first, tile_.num_keys);
    Copy(shared_.Values(stage), static_cast<const T*>(p_.v) + offset, p_.key_stride, first, tile_.num_keys);
  }
  __device__ void Positions(int first, int stage) const {
    if constexpr (kPositions) {
      Copy(shared_.Positions(stage), static_cast<const T*>(p_.positions) + column_, p_.position_stride, first,
           tile_.num_keys);
    }
  }
  // To base 2, of keys first + 2 * lane and the next; -inf for keys that do not exist. A warp has all kKeys.
  __device__ float2 Bias(int first) const {
    const int key = first + 2 * (static_cast<int>(threadIdx.x) % 32);
    return {BiasOf(key), BiasOf(key + 1)};
  }

 private:
  __device__ static void Copy(unsigned char* target, const T* source, int64_t stride, int first, int rows) {
    CopyRows<T, kWidth, kThreads>(SharedAddress(target), source, stride, first, rows, kWidth);
  }
  __device__ float BiasOf(int key) const {
    if (key >= tile_.num_keys) return -INFINITY;
    return p_.key_bias == nullptr ? 0.0F : p_.key_bias[key * p_.bias_stride + blockIdx.y] * kLog2E;
  }

  const RaggedAttention& p_;
  const QueryTile& tile_;
  const Shared<kPositions>& shared_;
  const int column_;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// A thread's part of its warp's rows g and g + 8: accumulators 4 * n + {0, 1} and 4 * n + {2, 3} are columns
// 8 * n + 2 * (lane % 4) + {0, 1} of the two. `sum` is of the thread's own keys.
struct RowSums {
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
  float o[kSums] = {};
};

template <typename T, bool kPositions>
__device__ inline void Scores(float (&s)[kKeys / 2], uint64_t queries, uint64_t keys, uint64_t positions) {
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) Wgmma<T, kKeys>::SS(s, queries + 2 * k, keys + 2 * k, k > 0);
  if constexpr (kPositions) {
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) Wgmma<T, kKeys>::SS(s, queries + 2 * k, positions + 2 * k, true);
  }
  WgmmaCommit();
  WgmmaWait<0>();
  WgmmaHold(s);
}

// Scores to base 2; `bias` as Loader::Bias gives it.
__device__ inline void ScaleScores(float (&s)[kKeys / 2], float scale, const float2& bias) {
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n) {
    const int lane = n * 4 + static_cast<int>(threadIdx.x) % 4;
    const float even = __shfl_sync(0xFFFFFFFF, bias.x, lane), odd = __shfl_sync(0xFFFFFFFF, bias.y, lane);
#pragma unroll
    for (int i = 0; i < 4; ++i) s[4 * n + i] = fmaf(s[4 * n + i], scale, i % 2 == 0 ? even : odd);
  }
}

// Hides what the thread's two rows do not see; keys count from the sequence's start.
__device__ inline void MaskScores(float (&s)[kKeys / 2], int first_key, const VisibleRange (&visible)[2]) {
  const int column = first_key + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i) {
    const int key = column + i / 4 * 8 + i % 2;
    const VisibleRange& range = visible[i / 2 % 2];
    if (key < range.first || key >= range.last) s[i] = -INFINITY;
  }
}

// s becomes exp2(s - largest); sums and o so far are brought to the new maximum.
__device__ inline void UpdateSums(float (&s)[kKeys / 2], RowSums& rows) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = rows.largest[r];
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) largest = fmaxf(largest, fmaxf(s[4 * n + 2 * r], s[4 * n + 2 * r + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFF, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFF, largest, 2));
    const float base = largest == -INFINITY ? 0.0F : largest;  // no visible key yet: exp2(-inf - 0) = 0
    const float decay = Exp2(rows.largest[r] - base);
    rows.largest[r] = largest;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
      float &a = s[4 * n + 2 * r], &b = s[4 * n + 2 * r + 1];
      a = Exp2(a - base), b = Exp2(b - base);
      sum += a + b;
    }
    rows.sum[r] = fmaf(rows.sum[r], decay, sum);
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) rows.o[4 * n + 2 * r] *= decay, rows.o[4 * n + 2 * r + 1] *= decay;
  }
}

// o += s values
template <typename T>
__device__ inline void AddValues(const float (&s)[kKeys / 2], float (&o)[kSums], uint64_t values) {
  uint32_t a[kKeys / 16][4];
#pragma unroll
  for (int i = 0; i < kKeys / 4; ++i) a[i / 4][i % 4] = PackSmall<T>(s[2 * i], s[2 * i + 1]);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) Wgmma<T, kWidth>::RSRows(o, a[k], values + 128 * k, true);
  WgmmaCommit();
  WgmmaWait<0>();
  WgmmaHold(o);
}

// The warp's 16 rows to memory by way of its part of the queries' shared memory, so that whole lines are written.
template <typename T>
__device__ inline void StoreRows(RowSums& sums, unsigned char* staging, T* context, int64_t stride, int rows) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = sums.sum[r];
    sum += __shfl_xor_sync(0xFFFFFFFF, sum, 1);
    sum += __shfl_xor_sync(0xFFFFFFFF, sum, 2);
    const float inverse = sum > 0 ? __fdividef(1.0F, sum) : 0.0F;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) sums.o[4 * n + 2 * r] *= inverse, sums.o[4 * n + 2 * r + 1] *= inverse;
  }
#pragma unroll
  for (int n = 0; n < kWidth / 8; n += 2) {
    const float* o = &sums.o[4 * n];
    StoreMatrices(staging + SwizzledByte(lane % 16, 8 * (n + lane / 16)), PackSaturated<T>(o[0], o[1]),
                  PackSaturated<T>(o[2], o[3]), PackSaturated<T>(o[4], o[5]), PackSaturated<T>(o[6], o[7]));
  }
  __syncwarp();
#pragma unroll
  for (int row = lane / 8; row < 16; row += 4) {
    const uint4 v = *reinterpret_cast<const uint4*>(staging + SwizzledByte(row, lane % 8 * 8));
    if (row < rows) *reinterpret_cast<uint4*>(context + row * stride + lane % 8 * 8) = v;
  }
}

#endif

// Block (tile, head).
template <typename T, bool kPositions, bool kChunks>
__global__ void __launch_bounds__(kThreads, kChunks ? 3 : 4)
    WarpgroupAttentionKernel(const __grid_constant__ RaggedAttention p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char memory[];
  const Shared<kPositions> shared{memory};
  const QueryTile tile = FindTile<kRows>(p);
  const Loader<T, kPositions> load(p, tile, shared);
  const bool cross = p.query_sequence != nullptr;

  int first_key = 0, end_key = tile.num_keys;
  if constexpr (kChunks) {
    first_key = VisibleOf(p, tile.start, tile.num_keys).first / kKeys * kKeys;
    end_key = VisibleOf(p, tile.start + tile.count - 1, tile.num_keys).last;
  }
  float2 bias[kStages] = {};
  if (tile.count > 0) {
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) bias[stage] = load.Bias(first_key + stage * kKeys);
#pragma unroll 1
    for (int stage = 0; stage < kStages; ++stage) {
      load.Positions(first_key + stage * kKeys, stage);
      if (cross) load.Keys(first_key + stage * kKeys, stage);
    }
  }
  WaitForPreviousKernel();
  if (tile.count == 0) return;

  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  VisibleRange visible[2] = {};  // of the thread's rows; a row that does not exist sees what the tile's last one sees
  if constexpr (kChunks) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = warp_row + static_cast<int>(threadIdx.x) % 32 / 4 + r * 8;
      visible[r] = VisibleOf(p, tile.start + min(row, tile.count - 1), tile.num_keys);
    }
  }
  load.Queries();
#pragma unroll 1
  for (int stage = 0; stage < kStages; ++stage) {
    if (!cross) load.Keys(first_key + stage * kKeys, stage);
    CommitCopies();
  }

  RowSums sums;
  int stage = 0;
#pragma unroll 1
  for (int key = first_key; key < end_key; key += kKeys, stage ^= 1) {
    WaitForCopies<1>();
    FenceAsyncProxy();
    __syncthreads();
    float s[kKeys / 2];
    Scores<T, kPositions>(s, TileDescriptor(shared.queries), TileDescriptor(shared.Keys(stage)),
                          TileDescriptor(shared.Positions(stage)));
    ScaleScores(s, p.scale_log2, stage == 0 ? bias[0] : bias[1]);
    if constexpr (kChunks) MaskScores(s, key, visible);
    UpdateSums(s, sums);
    AddValues<T>(s, sums.o, TileDescriptor(shared.Values(stage)));
    const int next = key + kStages * kKeys;
    if (next < end_key) {
      __syncthreads();  // all are done with the stage
      load.Positions(next, stage);
      load.Keys(next, stage);
      (stage == 0 ? bias[0] : bias[1]) = load.Bias(next);
    }
    CommitCopies();
  }
  WaitForCopies<0>();
  __syncthreads();  // the queries' memory is free
  T* context = static_cast<T*>(p.context) + (tile.row + warp_row) * p.context_stride + blockIdx.y * kWidth;
  StoreRows<T>(sums, shared.queries + warp_row * kSwizzleRowBytes, context, p.context_stride, tile.count - warp_row);
#endif
}

template <typename T, bool kPositions, bool kChunks>
Status LaunchKernel(const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  const auto kernel = WarpgroupAttentionKernel<T, kPositions, kChunks>;
  LaunchShape shape;
  shape.grid = dim3(problem.NumTiles(kRows), problem.heads);
  shape.block = dim3(kThreads);
  shape.shared_bytes = Shared<kPositions>::kBytes;
  shape.dependent = dependent;
  if (Status status = AllowShared(kernel, shape.shared_bytes); !status.ok()) return status;
  return Launch(kernel, shape, stream, problem);
}

template <typename T>
Status LaunchType(const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  const bool chunks = problem.chunk_frames > 0;
  if (problem.positions != nullptr) {
    return chunks ? LaunchKernel<T, true, true>(problem, dependent, stream)
                  : LaunchKernel<T, true, false>(problem, dependent, stream);
  }
  return chunks ? LaunchKernel<T, false, true>(problem, dependent, stream)
                : LaunchKernel<T, false, false>(problem, dependent, stream);
}

}  // namespace

bool SupportsWarpgroupAttention(const RaggedAttention& problem) {
  int device = 0, major = 0;
  if (problem.head_width != kWidth || cudaGetDevice(&device) != cudaSuccess) return false;
  return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major == 9;
}

Status LaunchWarpgroupAttention(DType dtype, const RaggedAttention& problem, bool dependent, cudaStream_t stream) {
  if (dtype == DType::kF16) return LaunchType<__half>(problem, dependent, stream);
  return LaunchType<__nv_bfloat16>(problem, dependent, stream);
}

}  // namespace ting::cuda
