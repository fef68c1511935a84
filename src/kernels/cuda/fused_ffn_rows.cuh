// src/kernels/cuda/fused_ffn_rows.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What the ends of the fused feed-forward kernel share, and its start: rows of x become the A operand. It is short of
// everything but latency, so whatever a warp reads is in flight at once and its rows are reduced side by side.
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

__device__ __forceinline__ void NamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

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
  __device__ __forceinline__ InputRows(int warp, int lane) : first_pass_(warp * kPasses), lane_(lane) {}

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
  // Into swizzled tiles [row group][4][64, 64], or [4][32, 64].
  template <typename T>
  __device__ __forceinline__ void Store(uint8_t* tiles) const {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = RowOf(pass), column = 4 * (lane_ % 8);
      uint8_t* target = tiles + row / kGroupRows * kStageBytes;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float4& v = v_[pass][j];
        uint8_t* box = target + j / 2 * kBoxRows * kSwizzleRowBytes;
        *reinterpret_cast<uint2*>(box + SwizzledByte(row % kGroupRows, column + j % 2 * 32)) =
            make_uint2(PackPair<T>(v.x, v.y), PackPair<T>(v.z, v.w));
      }
    }
  }

 private:
  static constexpr int kPasses = kRows / 4;  // of four rows
  static constexpr int kBoxRows = BoxRows(kRows * kConsumers / 32);

  // Lanes of one half warp hold rows that differ by 4: their swizzled addresses fall into different banks.
  __device__ __forceinline__ int RowOf(int pass) const {
    const int quarter = lane_ / 8, tile_pass = first_pass_ + pass;
    return 8 * (tile_pass / 2) + 2 * (tile_pass % 2) + 4 * (quarter % 2) + quarter / 2;
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

  const int first_pass_, lane_;
  float4 v_[kPasses][8];
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
