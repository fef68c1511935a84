// src/kernels/cuda/fused_ffn_rows.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The two ends of the fused feed-forward kernel: rows of x into the A operand, and partial sums into rows of y. Both
// are short of everything but latency, so whatever a warp reads from global memory or from other blocks is in flight at
// once and its rows are reduced side by side.
#pragma once

#include <type_traits>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fused_ffn_arguments.h"
#include "kernels/cuda/hopper.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Where a block stands in its cluster and in the matrix.
struct Place {
  int slice;                // of the hidden units
  int first_chunk, chunks;  // of the slice
  int tile;                 // within the cluster
  int first_row;            // of the tile
  int cluster_first_row;
};

__device__ __forceinline__ float4 Load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ __forceinline__ void Store4(float* p, const float4& v) { *reinterpret_cast<float4*>(p) = v; }

template <typename T>
__device__ __forceinline__ uint32_t PackPair(float low, float high) {
  uint32_t packed;
  if constexpr (std::is_same_v<T, __half>) {  // saturates, as FromFloat
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  }
  return packed;
}

// ---- vectors -------------------------------------------------------------------------------------------------------

// Norms and biases on their way to shared memory; they are weights, so this need not wait for the previous kernel.
__device__ __forceinline__ void StartVectors(const Arguments& arguments, const Place& place, float* vectors) {
  const auto copy = [&](int offset, const float* source, int size) {
    for (int i = 4 * static_cast<int>(threadIdx.x); i < size; i += 4 * kConsumers) {
      CopyAsync16(vectors + offset + i, source != nullptr ? source + i : arguments.x, source != nullptr);
    }
  };
  copy(kGamma, arguments.norm_gamma, kD);
  copy(kBeta, arguments.norm_beta, kD);
  copy(kB1, arguments.b1 != nullptr ? arguments.b1 + place.first_chunk * kChunk : nullptr, place.chunks * kChunk);
  copy(kB2, arguments.b2, kD);
  copy(kPostGamma, arguments.post_gamma, kD);
  copy(kPostBeta, arguments.post_beta, kD);
}

// ---- rows of x -----------------------------------------------------------------------------------------------------

// The rows of a warp. Eight lanes share a row, so that a sum over it takes three shuffles for four rows at once (with a
// row a warp it would be five for one). A lane holds columns 4 * (lane % 8) + 32 * j.
template <int kRows>
class InputRows {
 public:
  __device__ __forceinline__ InputRows(int warp, int lane) : first_row_(warp * kRows), lane_(lane) {}

  // Rows of the tile that starts at `tile_row`, of `rows` rows in all.
  __device__ __forceinline__ void Load(const float* x, int tile_row, int rows) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = tile_row + RowOf(pass);
      const float* source = x + static_cast<int64_t>(row) * kD + 4 * (lane_ % 8);
#pragma unroll
      for (int j = 0; j < 8; ++j) v_[pass][j] = row < rows ? Load4(source + 32 * j) : make_float4(0, 0, 0, 0);
    }
  }
  __device__ __forceinline__ void Normalise(const float* gamma, const float* beta, float eps) {
    float sum[kPasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) sum[pass] = Total(v_[pass], 0);
    SumOverRows(sum);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const float mean = sum[pass] * (1.0F / kD);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        float4& v = v_[pass][j];
        v.x -= mean, v.y -= mean, v.z -= mean, v.w -= mean;
      }
      sum[pass] = Total(v_[pass], 1);
    }
    SumOverRows(sum);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) sum[pass] = rsqrtf(sum[pass] * (1.0F / kD) + eps);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float4 g = Load4(gamma + 4 * (lane_ % 8) + 32 * j), b = Load4(beta + 4 * (lane_ % 8) + 32 * j);
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        float4& v = v_[pass][j];
        v.x = fmaf(v.x * sum[pass], g.x, b.x), v.y = fmaf(v.y * sum[pass], g.y, b.y);
        v.z = fmaf(v.z * sum[pass], g.z, b.z), v.w = fmaf(v.w * sum[pass], g.w, b.w);
      }
    }
  }
  // Into swizzled tiles [row group][4][64, 64].
  template <typename T>
  __device__ __forceinline__ void Store(uint8_t* tiles) const {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = RowOf(pass), column = 4 * (lane_ % 8);
      uint8_t* target = tiles + row / kGroupRows * kStageBytes;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float4& v = v_[pass][j];
        *reinterpret_cast<uint2*>(target + j / 2 * kBoxBytes + SwizzledByte(row % kGroupRows, column + j % 2 * 32)) =
            make_uint2(PackPair<T>(v.x, v.y), PackPair<T>(v.z, v.w));
      }
    }
  }

 private:
  static constexpr int kPasses = kRows / 4;  // of four rows

  // Lanes of one half warp hold rows that differ by 4: their swizzled addresses fall into different banks.
  __device__ __forceinline__ int RowOf(int pass) const {
    const int quarter = lane_ / 8;
    return first_row_ + 8 * (pass / 2) + 2 * (pass % 2) + 4 * (quarter % 2) + quarter / 2;
  }
  // Of a lane's values, or of their squares.
  __device__ __forceinline__ static float Total(const float4 (&v)[8], int squares) {
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      sum.x = squares ? fmaf(v[j].x, v[j].x, sum.x) : sum.x + v[j].x;
      sum.y = squares ? fmaf(v[j].y, v[j].y, sum.y) : sum.y + v[j].y;
      sum.z = squares ? fmaf(v[j].z, v[j].z, sum.z) : sum.z + v[j].z;
      sum.w = squares ? fmaf(v[j].w, v[j].w, sum.w) : sum.w + v[j].w;
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
  }
  __device__ __forceinline__ static void SumOverRows(float (&sum)[kPasses]) {
#pragma unroll
    for (int offset = 4; offset > 0; offset /= 2) {
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) sum[pass] += __shfl_xor_sync(0xFFFFFFFF, sum[pass], offset);
    }
  }

  const int first_row_, lane_;
  float4 v_[kPasses][8];
};

// ---- rows of y -----------------------------------------------------------------------------------------------------

// A thread's accumulators of 64 rows and 2 * N columns from `column` on.
template <int N>
__device__ __forceinline__ void StorePartial(const float (&acc)[N], float* partial, int first_row, int column,
                                             int lane) {
  float* upper = partial + (first_row + lane / 4) * kPartialStride + column + 2 * (lane % 4);
#pragma unroll
  for (int block = 0; block < N / 4; ++block) {
    *reinterpret_cast<float2*>(upper + 8 * block) = make_float2(acc[4 * block], acc[4 * block + 1]);
    *reinterpret_cast<float2*>(upper + 8 * kPartialStride + 8 * block) =
        make_float2(acc[4 * block + 2], acc[4 * block + 3]);
  }
}

struct Row8 {  // a lane's eight values of a row: columns 4 * lane ... and 128 + 4 * lane ...
  float v[8];
};
__device__ __forceinline__ Row8 MakeRow(const float4& a, const float4& b) {
  return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
}
__device__ __forceinline__ Row8 LoadRow(const float* row, int lane) {
  return MakeRow(Load4(row + 4 * lane), Load4(row + 128 + 4 * lane));
}

template <int kCount>
__device__ __forceinline__ void SumOverWarp(float (&sum)[kCount]) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] += __shfl_xor_sync(0xFFFFFFFF, sum[i], offset);
  }
}
template <int kCount>
__device__ __forceinline__ void NormRows(Row8 (&rows)[kCount], const float* gamma, const float* beta, float eps,
                                         int lane) {
  float sum[kCount] = {};
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int k = 0; k < 8; ++k) sum[i] += rows[i].v[k];
  }
  SumOverWarp(sum);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float mean = sum[i] * (1.0F / kD);
    sum[i] = 0;
#pragma unroll
    for (int k = 0; k < 8; ++k) rows[i].v[k] -= mean, sum[i] += rows[i].v[k] * rows[i].v[k];
  }
  SumOverWarp(sum);
  const Row8 g = LoadRow(gamma, lane), b = LoadRow(beta, lane);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float scale = rsqrtf(sum[i] * (1.0F / kD) + eps);
#pragma unroll
    for (int k = 0; k < 8; ++k) rows[i].v[k] = rows[i].v[k] * scale * g.v[k] + b.v[k];
  }
}

// The rows of the tile that this block finishes, every split-th; for kLeast <= split <= kMost. All threads of the
// cluster pass two cluster barriers: partial sums are there, and nobody needs them any more.
template <int kLeast, int kMost, int kRowGroups>
__device__ __forceinline__ void FinishRows(const Arguments& arguments, const Place& place, const float* partial,
                                           const float* vectors, int valid_rows, int warp, int lane) {
  constexpr int kTileRows = kGroupRows * kRowGroups, kWarps = kConsumers / 32;
  constexpr int kRows = ((kTileRows + kLeast - 1) / kLeast + kWarps - 1) / kWarps;  // of a warp, at most
  constexpr int kBatch = kMost == 1 ? 4 : kMost < 8 ? 8 / kMost : 1;
  const auto row_of = [&](int i) { return (i * kWarps + warp) * arguments.split + place.slice; };
  const auto valid = [&](int i) { return row_of(i) < kTileRows && place.first_row + row_of(i) < valid_rows; };
  const bool residual = arguments.residual != 0;
  Row8 x[kRows] = {};
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int64_t row = place.first_row + row_of(i);
    if (residual && valid(i)) x[i] = LoadRow(arguments.x + row * kD, lane);
  }
  ClusterSync();
  const Row8 b2 = LoadRow(vectors + kB2, lane);
#pragma unroll
  for (int first = 0; first < kRows; first += kBatch) {
    constexpr int kLast = kRows - 1;
    float4 parts[kBatch][kMost][2];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i > kLast || !valid(first + i)) continue;
      const float* source = partial + row_of(first + i) * kPartialStride + 4 * lane;
#pragma unroll
      for (int part = 0; part < kMost; ++part) {
        if (part >= kLeast && part >= arguments.split) continue;
        const uint32_t address = MapToBlock(source, place.tile * arguments.split + part);
        parts[i][part][0] = LoadRemote4(address);
        parts[i][part][1] = LoadRemote4(address + 128 * sizeof(float));
      }
    }
    Row8 sums[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      Row8& sum = sums[i];
      if (first + i > kLast || !valid(first + i)) {
        sum = {};
        continue;
      }
      sum = MakeRow(parts[i][0][0], parts[i][0][1]);
#pragma unroll
      for (int part = 1; part < kMost; ++part) {
        if (part >= kLeast && part >= arguments.split) continue;
        const Row8 p = MakeRow(parts[i][part][0], parts[i][part][1]);
#pragma unroll
        for (int k = 0; k < 8; ++k) sum.v[k] += p.v[k];
      }
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        sum.v[k] += b2.v[k];
        if (residual && first + i <= kLast) sum.v[k] = x[first + i].v[k] + arguments.residual * sum.v[k];
      }
    }
    if (first + kBatch > kLast) ClusterArrive();
    if (arguments.post_gamma != nullptr) {
      NormRows(sums, vectors + kPostGamma, vectors + kPostBeta, arguments.post_eps, lane);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i > kLast || !valid(first + i)) continue;
      const float* v = sums[i].v;
      float* y = arguments.y + static_cast<int64_t>(place.first_row + row_of(first + i)) * kD + 4 * lane;
      Store4(y, make_float4(v[0], v[1], v[2], v[3]));
      Store4(y + 128, make_float4(v[4], v[5], v[6], v[7]));
    }
  }
  __syncwarp();
  ClusterWait();
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
