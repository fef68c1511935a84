// src/kernels/cuda/fused_ffn_sums.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The end of the fused feed-forward kernel: partial sums become rows of y. It is short of everything but latency, so
// whatever a warp reads is in flight at once and its rows are reduced side by side.
#pragma once

#include "kernels/cuda/fused_ffn_rows.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// A thread's accumulators of 64 rows into [128][kPartialStride].
__device__ __forceinline__ void StorePartial(const float (&acc)[128], float* partial, int first_row, int lane) {
  float* upper = partial + (first_row + lane / 4) * kPartialStride + 2 * (lane % 4);
#pragma unroll
  for (int block = 0; block < 32; ++block) {
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

__device__ __forceinline__ void StoreRow(float* row, const Row8& values, int lane) {
  const float* v = values.v;
  Store4(row + 4 * lane, make_float4(v[0], v[1], v[2], v[3]));
  Store4(row + 128 + 4 * lane, make_float4(v[4], v[5], v[6], v[7]));
}

// Sums become f or x + residual * f.
template <int kCount>
__device__ __forceinline__ void AddResidual(const Arguments& arguments, const Row8& bias, const Row8 (&x)[kCount],
                                            Row8 (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float f = sums[i].v[k] + bias.v[k];
      sums[i].v[k] = arguments.residual == 0 ? f : x[i].v[k] + arguments.residual * f;
    }
  }
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

// The rows that a block finishes, for kLeast <= split <= kMost.
template <int kLeast, int kMost>
class FinishedRows {
 public:
  static constexpr int kRows = (OwnRows(128, kLeast) + kWarps - 1) / kWarps;  // of a warp, at most
  static constexpr int kBatch = kMost == 1 ? 4 : kMost < 8 ? 8 / kMost : 1;   // rows in flight at once
  using Batch = Row8[kBatch];

  __device__ __forceinline__ FinishedRows(const Arguments& arguments, const Place& place, const float* partial,
                                          int tile_rows, int warp, int lane)
      : arguments_(arguments), place_(place), partial_(partial), tile_rows_(tile_rows), warp_(warp), lane_(lane) {}

  // Rows of x for the residual.
  __device__ __forceinline__ void LoadInput(int first, Batch& x) const {
    if (arguments_.residual == 0) return;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (IsValid(first + i)) x[i] = LoadRow(arguments_.x + GlobalOffset(first + i), lane_);
    }
  }
  // f or x + residual * f; sums are made in the order of the slices.
  __device__ __forceinline__ void Add(int first, const Batch& x, const float* b2, Batch& sums) const {
#pragma unroll
    for (int i = 0; i < kBatch; ++i) sums[i] = {-0.0F, -0.0F, -0.0F, -0.0F, -0.0F, -0.0F, -0.0F, -0.0F};
    AddParts(first, sums);
    AddResidual(arguments_, LoadRow(b2, lane_), x, sums);
  }
  __device__ __forceinline__ void Store(int first, const Batch& y) const {
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (IsValid(first + i)) StoreRow(arguments_.y + GlobalOffset(first + i), y[i], lane_);
    }
  }

 private:
  __device__ __forceinline__ int NumberOf(int i) const { return i * kWarps + warp_; }
  __device__ __forceinline__ int RowOf(int i) const { return NumberOf(i) * arguments_.split + place_.slice; }
  __device__ __forceinline__ bool IsValid(int i) const { return RowOf(i) < tile_rows_; }
  __device__ __forceinline__ int64_t GlobalOffset(int i) const {
    return static_cast<int64_t>(place_.first_row + RowOf(i)) * kD;
  }
  __device__ __forceinline__ void LoadPart(int i, int part, float4 (&v)[2]) const {
    const float* own = partial_ + RowOf(i) * kPartialStride + 4 * lane_;
    if (part == place_.slice) {
      v[0] = Load4(own), v[1] = Load4(own + 128);
      return;
    }
    const uint32_t address = MapToBlock(own, place_.tile * arguments_.split + part);
    v[0] = LoadRemote4(address), v[1] = LoadRemote4(address + 128 * sizeof(float));
  }
  // All of them are in flight at once.
  __device__ __forceinline__ void AddParts(int first, Batch& sums) const {
    float4 parts[kBatch][kMost][2];
    const auto wanted = [&](int i, int j) { return IsValid(first + i) && (j < kLeast || j < arguments_.split); };
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int j = 0; j < kMost; ++j) {
        if (wanted(i, j)) LoadPart(first + i, j, parts[i][j]);
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int j = 0; j < kMost; ++j) {
        if (!wanted(i, j)) continue;
        const Row8 part = MakeRow(parts[i][j][0], parts[i][j][1]);
#pragma unroll
        for (int k = 0; k < 8; ++k) sums[i].v[k] += part.v[k];
      }
    }
  }

  const Arguments& arguments_;
  const Place& place_;
  const float* const partial_;
  const int tile_rows_, warp_, lane_;
};

// The loop is not unrolled: code that a block runs once takes longer to arrive than to run. Inside a model other
// kernels have driven it from the instruction caches.
template <int kLeast, int kMost>
__device__ __forceinline__ void FinishRows(const Arguments& arguments, const Place& place, const float* partial,
                                           const float* vectors, int valid_rows, int warp, int lane) {
  using Rows = FinishedRows<kLeast, kMost>;
  const int tile_rows = min(128, valid_rows - place.first_row);
  const Rows rows(arguments, place, partial, tile_rows, warp, lane);
  typename Rows::Batch x = {}, next = {};
  rows.LoadInput(0, x);
  ClusterSync();
  SyncForRacecheck(1, kConsumers);
#pragma unroll 1
  for (int first = 0; first < Rows::kRows; first += Rows::kBatch) {
    const bool last = first + Rows::kBatch >= Rows::kRows;
    if (!last) rows.LoadInput(first + Rows::kBatch, next);
    typename Rows::Batch sums;
    rows.Add(first, x, vectors + kB2, sums);
    if (last) ClusterArrive();
    if (arguments.post_gamma != nullptr) {
      NormRows(sums, vectors + kPostGamma, vectors + kPostBeta, arguments.post_eps, lane);
    }
    rows.Store(first, sums);
#pragma unroll
    for (int i = 0; i < Rows::kBatch; ++i) x[i] = next[i];
  }
  __syncwarp();
  ClusterWait();
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
