// src/kernels/cuda/row_gemm_stationary_tile.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Of the weight-stationary form with f32 results: the product of a tile of rows.
#pragma once

#include "kernels/cuda/ring_place.cuh"
#include "kernels/cuda/row_gemm_stationary.h"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda::stationary {

constexpr int kHeldSteps = kHeldK / 16;
using HeldWeights = uint32_t[kHeldSteps][4];  // of the first steps of K, for the 64 columns of a warpgroup

// The tile of rows in the next place of A by W; `Block` tells where both lie.
template <typename T, typename Block>
__device__ inline void MultiplyTile(const Block& block, const HeldWeights& held, int group, int lane, RingPlace& tile,
                                    float (&sum)[kTileRows / 2]) {
  BarrierWait(block.FullA(tile.place), tile.parity);
  const uint64_t a = TileDescriptor(block.A(tile.place));
  const uint64_t w = TileDescriptor(block.Weight(kHeldK / kTileColumns, group));
  constexpr int kTileStep = kTileRows * kSwizzleRowBytes >> 4, kWeightStep = kBlockN * kSwizzleRowBytes >> 4;
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kK / 16; ++k) {
    const uint64_t rows = a + (k / 4) * kTileStep + (k % 4) * 2;
    if (k < kHeldSteps) {
      Wgmma<T, kTileRows>::RS(sum, held[k % kHeldSteps], rows, k > 0);
    } else {
      Wgmma<T, kTileRows>::SS(sum, w + (k - kHeldSteps) / 4 * kWeightStep + (k % 4) * 2, rows, true);
    }
  }
  WgmmaCommit();
  WgmmaWait<0>();
  WgmmaHold(sum);
  if (lane == 0) BarrierArrive(block.EmptyA(tile.place));
  tile.Next(Block::kTiles);
}

}  // namespace ting::cuda::stationary
