// src/kernels/cuda/fused_ffn_transposed.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The products of the fused feed-forward kernel for narrow tiles (fused_ffn_narrow.cu), and the producer of their
// weights. Weights are the first operands of wgmma, of which there must be 64 rows, so that tiles may have any multiple
// of 8 rows; hidden units and sums come out transposed.
#pragma once

#include "kernels/cuda/fused_ffn_kernel.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// ---- producers: a thread for each warpgroup ------------------------------------------------------------------------

// A stage is one box of 16 KB, because a thread issues a copy in no less than 100 clocks and a stage in 300, and 8 KB
// boxes of a single thread arrived at 23 to 33 bytes a clock, however many multiprocessors shared L2. Stages alternate
// between the warpgroups: of all units of 128 hidden units first W1, [2][64 units, 64] of one half of the depth and
// then of the other; then W2 of the first half of the columns, and of the second, [2][64 columns, 64] of each unit.
class NarrowProducer {
 public:
  __device__ __forceinline__ NarrowProducer(const Arguments& arguments, const Ring& ring, const Place& place, int group)
      : arguments_(arguments),
        ring_(ring),
        place_(place),
        group_(group),
        units_(place.chunks / 2),
        next_(group),
        cursor_{group, 0} {}
  __device__ __forceinline__ int Stages() const { return 8 * units_; }
  __device__ __forceinline__ void LoadUntil(int end) {
    const int last = min(end, Stages());
#pragma unroll 1
    for (; next_ < last; next_ += 2) {
      uint64_t* full = &ring_.full[cursor_.slot];
      if (next_ >= ring_.stages) BarrierWait(&ring_.empty[cursor_.slot], cursor_.parity ^ 1);
      BarrierExpect(full, kStageBytes);
      const Source source = SourceOf(next_);
      TmaLoad3d(ring_.data + cursor_.slot * kStageBytes, source.map, full, 0, source.row, source.tile);
      cursor_.Next(ring_.stages, 2);
    }
  }
  // The weights of all layers exceed L2, and a ring is too short for the latency of memory: all tiles together ask for
  // the slice at once.
  __device__ __forceinline__ void PrefetchRest() const {
    const int tiles = static_cast<int>(gridDim.x) / arguments_.split;
    const int tile = static_cast<int>(blockIdx.x) / arguments_.split;
#pragma unroll 1
    for (int i = next_ + 2 * tile; i < Stages(); i += 2 * tiles) {
      const Source source = SourceOf(i);
      TmaPrefetch3d(source.map, 0, source.row, source.tile);
    }
  }

 private:
  static constexpr int kStageBytes = 2 * kBoxBytes;
  struct Source {
    const CUtensorMap* map;
    int row, tile;  // of 64 columns
  };

  __device__ __forceinline__ Source SourceOf(int stage) const {
    if (stage < 4 * units_) {
      return {&arguments_.w1, (place_.first_chunk + stage / 4 * 2 + group_) * kChunk, stage / 2 % 2 * 2};
    }
    const int half = stage >= 6 * units_ ? 1 : 0, unit = stage / 2 - (2 + half) * units_;
    return {&arguments_.w2, half * kHalfD + group_ * 64, place_.first_chunk + unit * 2};
  }

  const Arguments& arguments_;
  const Ring& ring_;
  const Place& place_;
  const int group_, units_;
  int next_;
  Cursor cursor_;
};

// ---- products ------------------------------------------------------------------------------------------------------

// A slice's share of act(X W1^T + b1) W2^T for a tile of kRows rows, by two warpgroups: each computes 64 of every 128
// hidden units and 64 of every 128 columns. All hidden units come first, so that the sums of half of the columns are
// complete, and on their way to other blocks, while the other half is multiplied.
template <typename T, Activation kActivation, int kRows>
class TransposedProducts {
 public:
  using Sums = float[kRows / 2];  // 64 units or columns by kRows rows, of a warpgroup

  // `hidden` is [units][2][kRows, 64].
  __device__ __forceinline__ TransposedProducts(const Ring& ring, const Place& place, const uint8_t* x_tiles,
                                                uint8_t* hidden, int warp, int lane)
      : ring_(ring),
        x_(TileDescriptor(x_tiles)),
        hidden_(hidden),
        warp_(warp),
        lane_(lane),
        units_(place.chunks / 2),
        full_{warp / 4, 0},
        used_{warp / 4, 0} {}

  // All threads return when all hidden units are there.
  __device__ __forceinline__ void ComputeHidden(const float* bias) {
    bias += warp_ / 4 * kChunk + warp_ % 4 * 16 + lane_ / 4;
    uint8_t* tile = hidden_ + warp_ / 4 * kTileBytes;
    Sums h;
    StartUnit(h);
    EndUnit(h);
#pragma unroll 1
    for (int unit = 1; unit < units_; ++unit, bias += 2 * kChunk, tile += 2 * kTileBytes) {
      Sums next;
      StartUnit(next);
      StoreUnit(h, bias, tile);
      EndUnit(next);
#pragma unroll
      for (int i = 0; i < kRows / 2; ++i) h[i] = next[i];
    }
    StoreUnit(h, bias, tile);
    FenceAsyncProxy();
    NamedBarrier(1, kConsumers);
  }
  // Sums of half of the columns.
  __device__ __forceinline__ void MultiplyColumns(Sums& sums) {
    StartColumns(sums);
    EndColumns(sums);
  }
  // The same in two parts: the first starts what the first unit adds, and other work may follow.
  __device__ __forceinline__ void StartColumns(Sums& sums) { StartUnitOfColumns(sums, 0); }
  __device__ __forceinline__ void EndColumns(Sums& sums) {
    EndProducts(sums);
#pragma unroll 1
    for (int unit = 1; unit < units_; ++unit) {
      StartUnitOfColumns(sums, unit);
      EndProducts(sums);
    }
  }

 private:
  static constexpr int kTileBytes = kRows * kSwizzleRowBytes;  // of [kRows, 64]

  __device__ __forceinline__ uint64_t NextStage() {
    BarrierWait(&ring_.full[full_.slot], full_.parity);
    const uint64_t stage = TileDescriptor(ring_.data + full_.slot * 2 * kBoxBytes);
    full_.Next(ring_.stages, 2);
    return stage;
  }
  // The oldest stage in use.
  __device__ __forceinline__ void Release() {
    if (lane_ == 0) BarrierArrive(&ring_.empty[used_.slot]);
    used_.Next(ring_.stages, 2);
  }
  // 128 of the depth.
  __device__ __forceinline__ void Issue(Sums& sums, uint64_t weights, uint64_t rows, bool accumulate) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      Wgmma<T, kRows>::SS(sums, weights + (k / 4) * (kBoxBytes >> 4) + (k % 4) * 2,
                          rows + (k / 4) * (kTileBytes >> 4) + (k % 4) * 2, accumulate || k > 0);
    }
  }
  __device__ __forceinline__ void StartUnit(Sums& h) {
    const uint64_t low = NextStage();
    WgmmaFence();
    Issue(h, low, x_, false);
    Issue(h, NextStage(), x_ + (2 * kTileBytes >> 4), true);
    WgmmaCommit();
  }
  __device__ __forceinline__ void EndUnit(Sums& h) {
    EndProducts(h);
    Release();
  }
  __device__ __forceinline__ void StartUnitOfColumns(Sums& sums, int unit) {
    const uint64_t weights = NextStage();
    WgmmaFence();
    Issue(sums, weights, TileDescriptor(hidden_ + unit * 2 * kTileBytes), unit > 0);
    WgmmaCommit();
  }
  __device__ __forceinline__ void EndProducts(Sums& sums) {
    WgmmaWait<0>();
    WgmmaHold(sums);
    Release();
  }
  // A thread holds hidden units lane / 4 and 8 further on, of rows 2 * (lane % 4) and the next one in every 8.
  __device__ __forceinline__ void StoreUnit(Sums& h, const float* bias, uint8_t* tile) const {
    const float low = bias[0], high = bias[8];
    const int row = lane_ / 16 * 8 + lane_ % 8, unit = warp_ % 4 * 16 + lane_ / 8 % 2 * 8;
#pragma unroll
    for (int i = 0; i < kRows / 8; i += 2) {
      uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (i + j / 2 >= kRows / 8) continue;
        float* v = h + 4 * i + 2 * j;
        v[0] += j % 2 == 0 ? low : high, v[1] += j % 2 == 0 ? low : high;
        ActivatePair<kActivation>(v[0], v[1]);
        words[j] = PackPair<T>(v[0], v[1]);
      }
      uint8_t* target = tile + SwizzledByte(8 * i + row, unit);
      if (i + 1 < kRows / 8) {
        StoreMatricesTransposed(target, words[0], words[1], words[2], words[3]);
      } else {
        StoreMatricesTransposed(target, words[0], words[1]);
      }
    }
  }

  const Ring& ring_;
  const uint64_t x_;
  uint8_t* const hidden_;
  const int warp_, lane_, units_;
  Cursor full_, used_;  // stages to be waited for and to be released
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
