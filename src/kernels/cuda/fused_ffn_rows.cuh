// src/kernels/cuda/fused_ffn_rows.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What the ends of the fused feed-forward kernel share, and its start: rows of x become the A operand. It is short of
// everything but latency, so whatever a warp reads is in flight at once and its rows are reduced side by side.
#pragma once

#include "kernels/cuda/async_copies.cuh"
#include "kernels/cuda/cluster_barrier.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fused_ffn_arguments.h"
#include "kernels/cuda/hopper.cuh"

namespace ting::cuda::ffn {

TING_CLUSTER_BARRIER

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

// Rows in this call; reads what the kernel before may have written.
__device__ __forceinline__ int ValidRows(const Arguments& arguments) {
  return arguments.num_rows == nullptr ? arguments.rows : min(*arguments.num_rows, arguments.rows);
}

// ---- vectors -------------------------------------------------------------------------------------------------------

// Norms and biases on their way to shared memory; they are weights, so this need not wait for the previous kernel. By
// `threads` threads, of which this one is number `thread`.
__device__ __forceinline__ void StartVectors(const Arguments& arguments, const Place& place, float* vectors, int thread,
                                             int threads) {
  const auto copy = [&](int offset, const float* source, int size) {
    for (int i = 4 * thread; i < size; i += 4 * threads) {
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
// Many rows pass through registers in steps: one is normalised while the next two arrive, by the same few instructions,
// because a block runs this once and fetching code that it has not run yet takes longer than running it.
template <int kTileRows>
class InputRows {
 public:
  // The tile starts at row `tile_row` of x, of `rows` rows in all. Of 128 rows, two blocks (`halves`) may normalise one
  // half each.
  __device__ __forceinline__ InputRows(const float* x, int tile_row, int rows, int warp, int lane, int halves = 1,
                                       int half = 0)
      : x_(x),
        tile_row_(tile_row),
        rows_(rows),
        passes_(kPasses / halves),
        first_pass_(half * kPasses / 2 * kWarps + warp * passes_),
        lane_(lane) {}
  // Asks for the first rows.
  __device__ __forceinline__ void Start() {
    Load(0, v_);
    if constexpr (kPasses > kAtOnce) Load(1, next_);
  }

  // T(norm(x)) into swizzled tiles [row group][4][64, 64], or [4][rows, 64] of a narrow tile.
  template <typename T>
  __device__ __forceinline__ void Store(const Arguments& arguments, const float* vectors, uint8_t* tiles) {
#pragma unroll 1
    for (int pass = 0; pass < (kPasses > kAtOnce ? passes_ : kPasses); pass += kAtOnce) {
      if (arguments.norm_gamma != nullptr) Normalise(vectors + kGamma, vectors + kBeta, arguments.norm_eps);
      StorePasses<T>(pass, tiles);
      if constexpr (kPasses > kAtOnce) {
#pragma unroll
        for (int j = 0; j < 8; ++j) v_[0][j] = next_[0][j];
        if (pass + 2 < passes_) Load(pass + 2, next_);
      }
    }
  }

 private:
  static constexpr int kPasses = (kTileRows + 31) / 32;  // of four rows by every warp
  static constexpr int kAtOnce = kPasses <= 2 ? kPasses : 1;

  // Lanes of one half warp hold rows that differ by 4: their swizzled addresses fall into different banks.
  __device__ __forceinline__ int RowOf(int pass) const {
    const int quarter = lane_ / 8, tile_pass = first_pass_ + pass;
    return 8 * (tile_pass / 2) + 2 * (tile_pass % 2) + 4 * (quarter % 2) + quarter / 2;
  }
  __device__ __forceinline__ void Load(int first, float4 (&v)[kAtOnce][8]) const {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int row = tile_row_ + RowOf(first + i);
      const float* source = x_ + static_cast<int64_t>(row) * kD + 4 * (lane_ % 8);
#pragma unroll
      for (int j = 0; j < 8; ++j) v[i][j] = row < rows_ ? Load4(source + 32 * j) : make_float4(0, 0, 0, 0);
    }
  }
  __device__ __forceinline__ void Normalise(const float* gamma, const float* beta, float eps) {
    float sum[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) sum[i] = Total(v_[i], 0);
    SumOverRows(sum);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float mean = sum[i] * (1.0F / kD);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        float4& v = v_[i][j];
        v.x -= mean, v.y -= mean, v.z -= mean, v.w -= mean;
      }
      sum[i] = Total(v_[i], 1);
    }
    SumOverRows(sum);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) sum[i] = rsqrtf(sum[i] * (1.0F / kD) + eps);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float4 g = Load4(gamma + 4 * (lane_ % 8) + 32 * j), b = Load4(beta + 4 * (lane_ % 8) + 32 * j);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        float4& v = v_[i][j];
        v.x = fmaf(v.x * sum[i], g.x, b.x), v.y = fmaf(v.y * sum[i], g.y, b.y);
        v.z = fmaf(v.z * sum[i], g.z, b.z), v.w = fmaf(v.w * sum[i], g.w, b.w);
      }
    }
  }
  template <typename T>
  __device__ __forceinline__ void StorePasses(int first, uint8_t* tiles) const {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int row = RowOf(first + i), column = 4 * (lane_ % 8);
      if (kTileRows % 32 != 0 && row >= kTileRows) continue;
      uint8_t* target = tiles + row / BoxRows(kTileRows) * BoxRows(kTileRows) * kD * 2;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float4& v = v_[i][j];
        uint8_t* box = target + j / 2 * BoxRows(kTileRows) * kSwizzleRowBytes;
        *reinterpret_cast<uint2*>(box + SwizzledByte(row % BoxRows(kTileRows), column + j % 2 * 32)) =
            make_uint2(PackSaturated<T>(v.x, v.y), PackSaturated<T>(v.z, v.w));
      }
    }
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
  __device__ __forceinline__ static void SumOverRows(float (&sum)[kAtOnce]) {
#pragma unroll
    for (int offset = 4; offset > 0; offset /= 2) {
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) sum[i] += __shfl_xor_sync(0xFFFFFFFF, sum[i], offset);
    }
  }

  const float* const x_;
  const int tile_row_, rows_, passes_, first_pass_, lane_;
  float4 v_[kAtOnce][8], next_[kAtOnce][8];
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
