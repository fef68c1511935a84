// src/kernels/cuda/fused_ffn_transposed.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The products of the fused feed-forward kernel for 32-row tiles. Weights are the first operands of wgmma, of which
// there must be 64 rows, and hidden units and sums come out transposed.
#pragma once

#include "kernels/cuda/fused_ffn_kernel.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

inline constexpr int kNarrowBox = 32 * kSwizzleRowBytes;  // bytes of [32 rows, 64]

template <typename T>
__device__ __forceinline__ void IssueFirstTransposed(float (&h)[16], uint64_t w1, uint64_t x) {
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
    Wgmma<T, 32>::SS(h, w1 + (k / 4) * (kBoxBytes >> 4) + (k % 4) * 2, x + (k / 4) * (kNarrowBox >> 4) + (k % 4) * 2,
                     k > 0);
  }
  WgmmaCommit();
}
// 64 columns.
template <typename T>
__device__ __forceinline__ void IssueSecondTransposed(float (&acc)[16], uint64_t w2, uint64_t hidden, bool accumulate) {
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < 2 * kChunk / 16; ++k) {
    Wgmma<T, 32>::SS(acc, w2 + (k / 4) * (2 * kBoxBytes >> 4) + (k % 4) * 2,
                     hidden + (k / 4) * (kNarrowBox >> 4) + (k % 4) * 2, accumulate || k > 0);
  }
  WgmmaCommit();
}
// A thread holds hidden units 2 * (lane / 4) and the next one, thanks to MakePairedRowsMap, of rows 2 * (lane % 4) and
// the next one in every 8: pairs for the activation are the same as elsewhere, and are words of the operand to come.
template <typename T, Activation kActivation>
__device__ __forceinline__ void ActivateTransposed(float (&h)[16], uint32_t (&words)[8], const float* bias) {
  const float2 b = *reinterpret_cast<const float2*>(bias);
#pragma unroll
  for (int block = 0; block < 4; ++block) {
    float* v = h + 4 * block;
    v[0] += b.x, v[1] += b.x, v[2] += b.y, v[3] += b.y;
    ActivatePair<kActivation>(v[0], v[2]);
    ActivatePair<kActivation>(v[1], v[3]);
    words[2 * block] = PackPair<T>(v[0], v[2]);
    words[2 * block + 1] = PackPair<T>(v[1], v[3]);
  }
}

// MultiplyColumns for 32 rows, with weights as the first operands, of which there must be 64: 64 columns of the first
// half and then of the second, whose last products have not ended. `hidden` is [2][32, 64].
template <typename T, Activation kActivation>
__device__ __forceinline__ void MultiplyTransposed(float (&first)[16], float (&second)[16], const Ring& ring,
                                                   const Place& place, const uint8_t* x_tiles, uint8_t* hidden,
                                                   const float* bias, int group, int warp, int lane) {
  const uint64_t x = TileDescriptor(x_tiles), both = TileDescriptor(hidden);
  const int unit = warp % 4 * 16 + lane / 4 * 2;
  const float* lane_bias = bias + group * kChunk + unit;
  uint8_t* tile = hidden + group * kNarrowBox;
  Cursor cursor{group, 0};
  const auto wait = [&] { BarrierWait(&ring.full[cursor.slot], cursor.parity); };
  const auto release = [&](int slot) {
    if (lane == 0) BarrierArrive(&ring.empty[slot]);
  };
  const auto publish = [&](const uint32_t(&words)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = 8 * (i / 2) + 2 * (lane % 4) + i % 2;
      *reinterpret_cast<uint32_t*>(tile + SwizzledByte(row, unit)) = words[i];
    }
    FenceAsyncProxy();
    NamedBarrier(1, kConsumers);
  };
  const auto multiply = [&](bool accumulate) {
    const uint64_t w2 = TileDescriptor(ring.Stage(cursor.slot));
    IssueSecondTransposed<T>(first, w2, both, accumulate);
    IssueSecondTransposed<T>(second, w2 + (kBoxBytes >> 4), both, accumulate);
  };
  float h[16];
  uint32_t words[8];

  wait();
  IssueFirstTransposed<T>(h, TileDescriptor(ring.Stage(cursor.slot)), x);
  WgmmaWait<0>();
  WgmmaHold(h);
  release(cursor.slot);
  cursor.Next(ring.stages, 2);
  ActivateTransposed<T, kActivation>(h, words, lane_bias);
  publish(words);
  const int turns = place.chunks / 2;
  for (int turn = 1; turn < turns; ++turn) {
    wait();
    IssueFirstTransposed<T>(h, TileDescriptor(ring.Stage(cursor.slot)), x);
    const int first_slot = cursor.slot;
    cursor.Next(ring.stages, 2);
    wait();
    multiply(turn > 1);
    WgmmaWait<2>();
    WgmmaHold(h);
    release(first_slot);
    ActivateTransposed<T, kActivation>(h, words, lane_bias + turn * 2 * kChunk);
    WgmmaWait<0>();
    WgmmaHold(first);
    WgmmaHold(second);
    release(cursor.slot);
    cursor.Next(ring.stages, 2);
    NamedBarrier(1, kConsumers);  // both have read the hidden units
    publish(words);
  }
  wait();
  multiply(turns > 1);
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
