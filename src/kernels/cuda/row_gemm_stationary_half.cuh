// src/kernels/cuda/row_gemm_stationary_half.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The weight-stationary form with 16-bit results, of f32 rows that are normalised (or only rounded) first.
//   rows       eight warps, each eight rows of every tile: from global memory through registers into a tile of A. What
//              a warp stores when a place is free it has normalised before, and its next rows are on their way
//   columns    two warpgroups, each 128 columns, that take turns at the tensor cores: one stores while the other
//              multiplies
// What bounds it (H100, inside the model): a tile more takes 2.4 us where its products need 1.2, for the reads of the
// next rows and their norm follow one another; blocks of other columns normalise the same rows again.
// Tried without gain: clusters whose blocks normalise each a part of the rows and send it to the others (N = 768: 39
// clusters of 3 find a place, 117 multiprocessors, and what is sent arrives 2,000 clocks later); first rows normalised
// by the warps that multiply, too; the next rows asked for one by one, as registers become free (N = 768, 10,304 rows:
// 14.6 us against 15.0, but the same steps).
#pragma once

#include "kernels/cuda/row_gemm_epilogue.cuh"
#include "kernels/cuda/row_gemm_kernel.cuh"
#include "kernels/cuda/row_gemm_stationary.h"
#include "kernels/cuda/row_norm.cuh"

namespace ting::cuda::stationary {

// What a block works on, and where its shared memory lies. Tiles go round the blocks, so that where a block's first
// rows are does not depend on the number of rows.
struct HalfBlock {
  using Layout = SharedHalf;
  static constexpr int kSteps = kK / kTileColumns;

  __device__ HalfBlock(const RowGemmParameters& p, uint8_t* shared_memory)
      : tile_rows(p.rows),
        column0(static_cast<int>(blockIdx.y) * kBlockN),
        shared(shared_memory + BytesToTile(shared_memory)) {}
  // Tiles of this block that begin before row `limit`.
  __device__ int Tiles(int limit) const {
    const int blocks = static_cast<int>(gridDim.x), all = (limit + tile_rows - 1) / tile_rows;
    return max(all - static_cast<int>(blockIdx.x) + blocks - 1, 0) / blocks;
  }
  __device__ int Row(int tile) const { return static_cast<int>(tile * gridDim.x + blockIdx.x) * tile_rows; }

  __device__ uint8_t* Weight(int k) const { return shared + k * kBlockN * kSwizzleRowBytes; }
  __device__ uint8_t* A(int tile) const { return shared + Layout::kA + tile % Layout::kPlaces * Layout::kPlaceBytes; }
  __device__ uint8_t* Staging(int warp) const { return shared + Layout::kStaging + warp * kRowGemmStaging; }
  __device__ float* Gamma() const { return reinterpret_cast<float*>(shared + Layout::kGamma); }  // then beta
  __device__ float* Bias() const { return reinterpret_cast<float*>(shared + Layout::kBias); }
  __device__ uint64_t* Barrier(int i) const { return reinterpret_cast<uint64_t*>(shared + Layout::kBarriers) + i; }
  __device__ uint64_t* FullW(int k) const { return Barrier(k); }
  __device__ uint64_t* FullNorm() const { return Barrier(kSteps); }
  __device__ uint64_t* FullA(int tile) const { return FullNorm() + 1 + tile % Layout::kPlaces; }
  __device__ uint64_t* EmptyA(int tile) const { return FullA(0) + Layout::kPlaces + tile % Layout::kPlaces; }
  __device__ static uint32_t Parity(int tile) { return static_cast<uint32_t>(tile / Layout::kPlaces) & 1; }

  const int tile_rows, column0;
  uint8_t* const shared;
};

// One of the warps that normalise.
template <typename T>
class RowWarp {
 public:
  __device__ RowWarp(const RowGemmParameters& p, const HalfBlock& block, int warp)
      : p_(p),
        block_(block),
        warp_(warp),
        lane_(static_cast<int>(threadIdx.x) % 32),
        norm_{p.x_f32, p.x_stride, block.Gamma(), block.Gamma() + kK, p.gamma != nullptr, p.eps} {}

  __device__ void Run() const {
    if (p_.gamma == nullptr) {  // v * 1 + 0
      const int i = 32 * warp_ + lane_;
      block_.Gamma()[i] = 1, block_.Gamma()[kK + i] = 0;
    }
    __syncthreads();
    WaitForPreviousKernel();
    if (kWarpRows * warp_ < block_.tile_rows) NormaliseRows();
    if (p_.gamma != nullptr) BarrierWait(block_.FullNorm(), 0);  // the block must outlive the copies into its memory
  }

 private:
  // The warp's rows of every tile. Reads do not wait for the number of rows: x has M.
  __device__ void NormaliseRows() const {
    const int first_row = kWarpRows * warp_;
    RowNorm::Eight<kK> rows;
    norm_.LoadEight<kK>(block_.Row(0) + first_row, p_.M, rows);
    const int tiles = block_.Tiles(RowLimit(p_));
    if (p_.gamma != nullptr) BarrierWait(block_.FullNorm(), 0);
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      RowNorm::PackedEight<kK> packed;
      norm_.NormaliseEight<T, kK>(rows, packed);
      if (tile + 1 < tiles) norm_.LoadEight<kK>(block_.Row(tile + 1) + first_row, p_.M, rows);
      BarrierWait(block_.EmptyA(tile), HalfBlock::Parity(tile) ^ 1);
      RowNorm::StoreEight<kK, kHalfTileRows>(packed, first_row, block_.A(tile));
      FenceAsyncProxy();
      __syncwarp();
      if (lane_ == 0) BarrierArrive(block_.FullA(tile));
    }
  }

  const RowGemmParameters& p_;
  const HalfBlock& block_;
  const int warp_, lane_;
  const RowNorm norm_;
};

// One of the warps that multiply.
template <typename T, RowGemmOutput kOutput>
class HalfColumns {
 public:
  __device__ HalfColumns(const RowGemmParameters& p, const HalfBlock& block, int warp)
      : p_(p), block_(block), warp_(warp), lane_(static_cast<int>(threadIdx.x) % 32), half_(warp / 4) {}

  __device__ void Run() const {
    if (warp_ == 0) InitBarriers();
    __syncthreads();
    if (warp_ == 0 && lane_ == 0) LoadWeights();
    __syncwarp();
    FetchBias();
    WaitForPreviousKernel();
    const int limit = RowLimit(p_), tiles = block_.Tiles(limit);
#pragma unroll 1
    for (int k = 0; k < HalfBlock::kSteps; ++k) BarrierWait(block_.FullW(k), 0);
    if (half_ == 1 && tiles > 0) GiveTurn();
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      const int row0 = block_.Row(tile), column = half_ * kHalfN;
      const RowGemmEpilogue<T, kHalfN, kOutput, false> epilogue(
          p_, row0 + warp_ % 4 * 16, min(limit, row0 + p_.rows), block_.column0 + column, block_.Bias() + column,
          block_.Staging(warp_));
      float sum[kHalfN / 2];
      Multiply(tile, tiles, sum);
      epilogue.StoreHalf(sum);
    }
  }

 private:
  __device__ void InitBarriers() const {
    if (lane_ < SharedHalf::kNumBarriers) {
      uint64_t* barrier = block_.Barrier(lane_);
      const int arrivals = barrier < block_.FullA(0)    ? 1
                           : barrier < block_.EmptyA(0) ? block_.tile_rows / kWarpRows
                                                        : kColumnWarps;
      BarrierInit(barrier, static_cast<uint32_t>(arrivals));
    }
    BarrierInitFence();
    __syncwarp();
  }
  __device__ void LoadWeights() const {
    TmaPrefetchMap(&p_.w);
#pragma unroll 1
    for (int k = 0; k < HalfBlock::kSteps; ++k) {
      BarrierExpect(block_.FullW(k), kBlockN * kSwizzleRowBytes);
      TmaLoad2d(block_.Weight(k), &p_.w, block_.FullW(k), k * kTileColumns, block_.column0);
    }
    if (p_.gamma != nullptr) LoadNorm(block_.Gamma(), p_.gamma, p_.beta, kK, block_.FullNorm());
  }
  // A thread's own column's, which its warpgroup reads.
  __device__ void FetchBias() const {
    const int column = 32 * warp_ + lane_;
    block_.Bias()[column] = p_.bias != nullptr ? p_.bias[block_.column0 + column] : 0;
    NamedBarrier(3 + half_, 128);
  }
  // At the tensor cores, of which the first is that of the first half. A turn that nobody takes is not given.
  __device__ void TakeTurn() const { NamedBarrier(1 + half_, 32 * kColumnWarps); }
  __device__ void GiveTurn() const { NamedBarrierArrive(2 - half_, 32 * kColumnWarps); }

  __device__ void Multiply(int tile, int tiles, float (&sum)[kHalfN / 2]) const {
    BarrierWait(block_.FullA(tile), HalfBlock::Parity(tile));
    TakeTurn();
    const uint64_t a = TileDescriptor(block_.A(tile));
    const uint64_t w = TileDescriptor(block_.Weight(0) + half_ * kHalfN * kSwizzleRowBytes);
    constexpr int kStepA = kHalfTileRows * kSwizzleRowBytes >> 4, kStepW = kBlockN * kSwizzleRowBytes >> 4;
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < HalfBlock::kSteps; ++k) {
#pragma unroll
      for (int part = 0; part < kTileColumns / 16; ++part) {
        Wgmma<T, kHalfN>::SS(sum, a + k * kStepA + 2 * part, w + k * kStepW + 2 * part, k + part > 0);
      }
    }
    WgmmaCommit();
    if (half_ == 0 || tile + 1 < tiles) GiveTurn();
    WgmmaWait<0>();
    WgmmaHold(sum);
    if (lane_ == 0) BarrierArrive(block_.EmptyA(tile));
  }

  const RowGemmParameters& p_;
  const HalfBlock& block_;
  const int warp_, lane_, half_;
};

// Of a thread, 256 together: rows of two tiles, one of them in 16 bits, take more than sums.
constexpr int kColumnRegisters = 120, kRowRegisters = 136;

template <typename T, RowGemmOutput kOutput>
__global__ void __launch_bounds__(kHalfThreads, 1) HalfKernel(const __grid_constant__ RowGemmParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  const HalfBlock block(p, shared);
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < kColumnWarps) {
    RegistersDown<kColumnRegisters>();
    HalfColumns<T, kOutput>(p, block, warp).Run();
  } else {
    RegistersUp<kRowRegisters>();
    RowWarp<T>(p, block, warp - kColumnWarps).Run();
  }
#endif
}

}  // namespace ting::cuda::stationary
