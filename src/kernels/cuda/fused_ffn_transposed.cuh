// src/kernels/cuda/fused_ffn_transposed.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What the fused feed-forward kernels of narrow tiles share (fused_ffn_split.cu, fused_ffn_unsplit.cu): the steps of
// the products. Weights are the first operands of wgmma, of which there must be 64 rows, so that tiles may have any
// multiple of 8 rows; hidden units and sums come out transposed.
#pragma once

#include "kernels/cuda/fused_ffn_products.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// A stage of a warpgroup. Of every unit there are two of W1, [2][64 units, 64] of one half of the depth and of the
// other, and two of W2, [2][64 columns, 64] of one half of the columns and of the other.
__device__ __forceinline__ WeightBox TransposedBox(const Place& place, int group, bool second, int unit, int half) {
  const int chunk = place.first_chunk + unit * 2;
  if (second) return {second, half * kHalfD + group * 64, chunk};
  return {second, (chunk + group) * kChunk, half * 2};
}

// The steps of act(X W1^T + b1) W2^T for a tile of kRows rows, by two warpgroups: each computes 64 of every 128 hidden
// units and 64 of every 128 columns. Products are committed one stage a group. A unit of 128 hidden units lies as
// [2][kRows, 64].
template <typename T, Activation kActivation, int kRows>
class TransposedSteps {
 public:
  using Sums = float[kRows / 2];  // 64 units or columns by kRows rows, of a warpgroup

  __device__ __forceinline__ TransposedSteps(const Ring& ring, const uint8_t* x_tiles, const float* bias, int warp,
                                             int lane)
      : ring_(ring),
        x_(TileDescriptor(x_tiles)),
        bias_(bias + warp / 4 * kChunk + warp % 4 * 16 + lane / 4),
        warp_(warp),
        lane_(lane),
        full_{warp / 4, 0},
        used_{warp / 4, 0} {}

 protected:
  static constexpr int kTileBytes = kRows * kSwizzleRowBytes;  // of [kRows, 64]
  static constexpr int kUnitBytes = 2 * kTileBytes;            // of a unit

  // Hidden units of one unit, by the two halves of the depth.
  __device__ __forceinline__ void StartUnit(Sums& h) {
    Multiply(h, x_, false);
    Multiply(h, x_ + (2 * kTileBytes >> 4), true);
  }
  // What the hidden units of one unit add to half of the columns.
  __device__ __forceinline__ void StartColumns(Sums& sums, const uint8_t* hidden, bool accumulate) {
    Multiply(sums, TileDescriptor(hidden), accumulate);
  }
  // The oldest stage in use has been read.
  __device__ __forceinline__ void Release() {
    if (lane_ == 0) BarrierArrive(&ring_.empty[used_.place]);
    used_.Forward(ring_.stages, 2);
  }
  // Of the rows [kFirst, kLast) of a tile, in eights. A thread holds hidden units lane / 4 and 8 further on, of rows
  // 2 * (lane % 4) and the next one in every 8.
  template <int kFirst, int kLast>
  __device__ __forceinline__ void StoreUnit(Sums& h, int unit, uint8_t* hidden) const {
    const float low = bias_[unit * 2 * kChunk], high = bias_[unit * 2 * kChunk + 8];
    const int row = lane_ / 16 * 8 + lane_ % 8, column = warp_ % 4 * 16 + lane_ / 8 % 2 * 8;
    uint8_t* tile = hidden + warp_ / 4 * kTileBytes;
#pragma unroll
    for (int i = kFirst; i < kLast; i += 2) {
      uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (i + j / 2 >= kLast) continue;
        float* v = h + 4 * i + 2 * j;
        v[0] += j % 2 == 0 ? low : high, v[1] += j % 2 == 0 ? low : high;
        ActivatePair<kActivation>(v[0], v[1]);
        words[j] = PackSaturated<T>(v[0], v[1]);
      }
      uint8_t* target = tile + SwizzledByte(8 * i + row, column);
      if (i + 1 < kLast) {
        StoreMatricesTransposed(target, words[0], words[1], words[2], words[3]);
      } else {
        StoreMatricesTransposed(target, words[0], words[1]);
      }
    }
  }

 private:
  // 128 of the depth: the weights of the next stage by `rows`.
  __device__ __forceinline__ void Multiply(Sums& sums, uint64_t rows, bool accumulate) {
    BarrierWait(&ring_.full[full_.place], full_.parity);
    const uint64_t weights = TileDescriptor(ring_.data + full_.place * 2 * kBoxBytes);
    full_.Forward(ring_.stages, 2);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      Wgmma<T, kRows>::SS(sums, weights + (k / 4) * (kBoxBytes >> 4) + (k % 4) * 2,
                          rows + (k / 4) * (kTileBytes >> 4) + (k % 4) * 2, accumulate || k > 0);
    }
    WgmmaCommit();
  }

  const Ring& ring_;
  const uint64_t x_;
  const float* const bias_;
  const int warp_, lane_;
  RingPlace full_, used_;  // stages to be waited for and to be released
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
