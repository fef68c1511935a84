// src/kernels/cuda/row_norm.cuh
// SPDX-License-Identifier: Apache-2.0
//
// LayerNorm of f32 rows into swizzled tiles of 16-bit elements in shared memory (hopper.cuh): the A operand of a
// product.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"

namespace ting::cuda {

// gamma and, behind it, beta, of a norm over `width` elements, to shared memory: by one thread; `barrier` counts the
// bytes.
__device__ inline void LoadNorm(float* target, const float* gamma, const float* beta, int width, uint64_t* barrier) {
  const uint32_t bytes = static_cast<uint32_t>(width) * 4;
  BarrierExpect(barrier, 2 * bytes);
  BulkLoad(target, gamma, barrier, bytes);
  BulkLoad(target + width, beta, barrier, bytes);
}

// Eight lanes share a row, so that a sum over it takes three shuffles for four rows at once (with a row a warp it would
// be five for one, and shuffles would cost as much as the reads). A lane holds columns 4 * lane + 32 * j.
struct RowNorm {
  const float* x;
  int64_t stride;
  const float* gamma;  // in shared memory, as beta; read after `ready`
  const float* beta;
  bool norm;  // false: x is only rounded
  float eps;

  // The kRows rows from `row0` on by kWarps warps, of which this is `warp`, into K / 64 tiles of 64 rows; rows from
  // `limit` on are anything. ready(), false to stop, is called when the first reads are on their way. All reads
  // of a thread are in flight together, up to 128 registers of them, or 64 when eight warps are to hide the wait.
  template <typename T, int K, int kRows, int kWarps, typename Ready>
  __device__ void Rows(int warp, int row0, int limit, uint8_t* tiles, Ready ready) const {
    constexpr int kAllFours = kRows / 4, kFours = (kAllFours + kWarps - 1) / kWarps;  // times four rows that a warp has
    constexpr int kMost = 4096 / kWarps / K, kPasses = kFours < kMost ? kFours : kMost;
    const int lane = static_cast<int>(threadIdx.x) % 32, column = 4 * (lane % 8);
    if (kAllFours < kWarps && warp >= kAllFours) {
      ready();
      return;
    }
#pragma unroll 1
    for (int first = 0; first < kFours; first += kPasses) {
      float4 v[kPasses][K / 32];
      float scale[kPasses];
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        Load<K>(row0 + RowOf(kFours * warp + first + pass, lane), limit, column, v[pass]);
      }
      if (first == 0 && !ready()) return;
      if (norm) {
        Centre<K>(v, scale);
      } else {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) scale[pass] = 1;
      }
#pragma unroll
      for (int j = 0; j < K / 32; ++j) {
        const float4 g = *reinterpret_cast<const float4*>(gamma + column + 32 * j);
        const float4 b = *reinterpret_cast<const float4*>(beta + column + 32 * j);
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
          uint8_t* tile = tiles + j / 2 * 64 * kSwizzleRowBytes;
          const int row = RowOf(kFours * warp + first + pass, lane);
          Store<T>(tile + SwizzledByte(row, column + 32 * (j % 2)), scale[pass], g, b, v[pass][j]);
        }
      }
    }
  }

  // Eight rows by a warp in three steps, between which others can be waited for: reads on their way; results in
  // registers; those into K / 64 tiles of kTileRows rows, from row0, a multiple of 8, on. A lane has two fours of rows.
  template <int K>
  using Eight = float4[2][K / 32];
  template <int K>
  using PackedEight = uint2[2][K / 32];
  template <int K>
  __device__ void LoadEight(int row0, int limit, Eight<K>& rows) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int four = 0; four < 2; ++four) Load<K>(row0 + RowOf(four, lane), limit, 4 * (lane % 8), rows[four]);
  }
  template <typename T, int K>
  __device__ void NormaliseEight(Eight<K>& rows, PackedEight<K>& packed) const {
    const int column = 4 * (static_cast<int>(threadIdx.x) % 8);
    float scale[2] = {1, 1};
    if (norm) Centre<K>(rows, scale);
#pragma unroll
    for (int j = 0; j < K / 32; ++j) {
      const float4 g = *reinterpret_cast<const float4*>(gamma + column + 32 * j);
      const float4 b = *reinterpret_cast<const float4*>(beta + column + 32 * j);
#pragma unroll
      for (int four = 0; four < 2; ++four) packed[four][j] = Pack<T>(scale[four], g, b, rows[four][j]);
    }
  }
  template <int K, int kTileRows>
  __device__ static void StoreEight(const PackedEight<K>& packed, int row0, uint8_t* tiles) {
    const int lane = static_cast<int>(threadIdx.x) % 32, column = 4 * (lane % 8);
#pragma unroll
    for (int j = 0; j < K / 32; ++j) {
      uint8_t* tile = tiles + j / 2 * kTileRows * kSwizzleRowBytes;
#pragma unroll
      for (int four = 0; four < 2; ++four) {
        const int row = row0 + RowOf(four, lane);
        *reinterpret_cast<uint2*>(tile + SwizzledByte(row, column + 32 * (j % 2))) = packed[four][j];
      }
    }
  }
  // Row of a lane among the four rows `four`. Lanes of one half-warp store rows that differ by 4: their swizzled
  // addresses fall into different banks.
  __device__ static int RowOf(int four, int lane) {
    const int quarter = lane / 8;
    return 8 * (four / 2) + 2 * (four % 2) + 4 * (quarter % 2) + quarter / 2;
  }

 private:
  // In assembly, so that all reads are issued before what `ready` waits for. A row that does not exist is the last one:
  // nobody reads its result, and code that is not there need not be fetched.
  template <int K>
  __device__ void Load(int row, int limit, int column, float4 (&v)[K / 32]) const {
    const float* source = x + min(row, limit - 1) * stride + column;
#pragma unroll
    for (int j = 0; j < K / 32; ++j) {
      asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                   : "=f"(v[j].x), "=f"(v[j].y), "=f"(v[j].z), "=f"(v[j].w)
                   : "l"(source + 32 * j)
                   : "memory");
    }
  }
  template <int kPasses>
  __device__ static void SumOverRows(float (&v)[kPasses]) {
#pragma unroll
    for (int offset = 4; offset > 0; offset /= 2) {
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) v[pass] += __shfl_xor_sync(0xFFFFFFFF, v[pass], offset);
    }
  }
  // Takes the means away and gives 1 / sqrt(variance + eps). Step by step for all passes, as each waits for shuffles.
  template <int K, int kPasses>
  __device__ void Centre(float4 (&v)[kPasses][K / 32], float (&scale)[kPasses]) const {
    float mean[kPasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      float4 sum = v[pass][0];
#pragma unroll
      for (int j = 1; j < K / 32; ++j) {
        sum.x += v[pass][j].x, sum.y += v[pass][j].y, sum.z += v[pass][j].z, sum.w += v[pass][j].w;
      }
      mean[pass] = (sum.x + sum.y) + (sum.z + sum.w);
    }
    SumOverRows(mean);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      mean[pass] *= 1.0F / K;
      float4 square = make_float4(0, 0, 0, 0);
#pragma unroll
      for (int j = 0; j < K / 32; ++j) {
        float4& e = v[pass][j];
        e.x -= mean[pass], e.y -= mean[pass], e.z -= mean[pass], e.w -= mean[pass];
        square.x = fmaf(e.x, e.x, square.x), square.y = fmaf(e.y, e.y, square.y);
        square.z = fmaf(e.z, e.z, square.z), square.w = fmaf(e.w, e.w, square.w);
      }
      scale[pass] = (square.x + square.y) + (square.z + square.w);
    }
    SumOverRows(scale);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) scale[pass] = rsqrtf(scale[pass] * (1.0F / K) + eps);
  }
  template <typename T>
  __device__ static uint2 Pack(float scale, const float4& g, const float4& b, const float4& v) {
    const uint32_t low = PackSaturated<T>(fmaf(v.x * scale, g.x, b.x), fmaf(v.y * scale, g.y, b.y));
    return make_uint2(low, PackSaturated<T>(fmaf(v.z * scale, g.z, b.z), fmaf(v.w * scale, g.w, b.w)));
  }
  template <typename T>
  __device__ static void Store(uint8_t* target, float scale, const float4& g, const float4& b, const float4& v) {
    *reinterpret_cast<uint2*>(target) = Pack<T>(scale, g, b, v);
  }
};

}  // namespace ting::cuda
