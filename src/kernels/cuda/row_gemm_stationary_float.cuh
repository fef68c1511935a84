// src/kernels/cuda/row_gemm_stationary_float.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The weight-stationary form with f32 results.
//   columns    four warpgroups, each 64 columns: multiply a tile, add it to the residual, store it
//   rows       a lane copies tiles of A, another the residual, a tile at a time: copies of one row each, which a warp
//              issues one after the other, came later than the products
// Tried without gain: tiles of 40 rows with the residual read into registers (10,304 rows, H100, inside the model: 10.7
// us against 9.7).
#pragma once

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/row_gemm_kernel.cuh"
#include "kernels/cuda/row_gemm_stationary_float_epilogue.cuh"
#include "kernels/cuda/row_gemm_stationary_tile.cuh"

namespace ting::cuda::stationary {

// Where things lie in the block's shared memory.
struct FloatBlock {
  using Layout = SharedFloat;
  static constexpr int kTiles = Layout::kTiles, kResiduals = Layout::kResiduals, kSteps = kK / kTileColumns;

  __device__ explicit FloatBlock(uint8_t* shared_memory)
      : column0(static_cast<int>(blockIdx.y) * kBlockN),
        shared(shared_memory + BytesToTile(shared_memory)) {}
  __device__ uint8_t* Weight(int k, int group) const {
    return shared + (k * kBlockN + group * kGroupN) * kSwizzleRowBytes;
  }
  __device__ uint8_t* A(int place) const { return shared + Layout::kA + place * kTileBytes; }
  __device__ uint8_t* Residual(int place) const {
    constexpr int kFirst = Layout::kFirstResiduals;
    return shared + (place < kFirst ? Layout::kResidual + place * Layout::kResidualBytes
                                    : (place - kFirst) * Layout::kResidualBytes);
  }
  __device__ uint64_t* Barrier(int i) const { return reinterpret_cast<uint64_t*>(shared + Layout::kBarriers) + i; }
  __device__ uint64_t* FullW(int k) const { return Barrier(k); }
  __device__ uint64_t* FullA(int place) const { return FullW(kSteps + place); }
  __device__ uint64_t* FullResidual(int place) const { return FullA(kTiles + place); }
  __device__ uint64_t* EmptyA(int place) const { return FullResidual(kResiduals + place); }
  __device__ uint64_t* EmptyResidual(int place) const { return EmptyA(kTiles + place); }
  __device__ uint64_t* HeldW() const { return EmptyResidual(kResiduals); }  // in registers, so that its place is free

  const int column0;
  uint8_t* const shared;
};

// The rows of a block, in tiles. Its first tile is known before the number of rows is; what lies behind all first tiles
// is shared out evenly.
class FloatRows {
 public:
  __device__ explicit FloatRows(int limit) {
    const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
    const int each = (max(limit - blocks * kTileRows, 0) + blocks - 1) / blocks;
    first_ = min(max(limit - block * kTileRows, 0), kTileRows);
    others_row_ = blocks * kTileRows + block * each;
    others_ = min(max(limit - others_row_, 0), each);
  }
  __device__ int tiles() const { return first_ == 0 ? 0 : 1 + (others_ + kTileRows - 1) / kTileRows; }
  __device__ int Row(int tile) const {
    return tile == 0 ? static_cast<int>(blockIdx.x) * kTileRows : others_row_ + (tile - 1) * kTileRows;
  }
  // Rows from Row(tile) on, of this tile and those after it.
  __device__ int Count(int tile) const { return tile == 0 ? first_ : others_ - (tile - 1) * kTileRows; }

 private:
  int first_, others_row_, others_;
};

// Copies the block's rows, of A or of the residual, into places that come round. Work of one lane.
template <bool kOfA>
class FloatCopies {
 public:
  __device__ FloatCopies(const RowGemmParameters& p, const FloatBlock& block)
      : p_(p), block_(block), first_row_(static_cast<int>(blockIdx.x) * kTileRows) {}

  // After WaitForPreviousKernel, where every instruction counts until the first copy is on its way; that does not wait
  // for the number of rows: x has M.
  __device__ void Run() const {
    int limit = p_.M;
    if (p_.num_rows != nullptr) asm volatile("ld.global.s32 %0, [%1];" : "=r"(limit) : "l"(p_.num_rows) : "memory");
    const bool early = first_row_ < p_.M;
    if (early) Copy(0, first_row_);
    const FloatRows rows(min(limit, p_.M));
    const int tiles = rows.tiles();
    RingPlace at{1 % kPlaces, 1 / kPlaces};
#pragma unroll 1
    for (int tile = 1; tile < tiles; ++tile) {
      if (!kOfA && tile == SharedFloat::kFirstResiduals) BarrierWait(block_.HeldW(), 0);
      BarrierWait(kOfA ? block_.EmptyA(at.place) : block_.EmptyResidual(at.place), at.parity ^ 1);
      Copy(at.place, rows.Row(tile));
      at.Next(kPlaces);
    }
    if (early && tiles == 0) BarrierWait(Full(0), 0);  // a block must outlive the copies into its memory
  }

 private:
  static constexpr int kPlaces = kOfA ? FloatBlock::kTiles : FloatBlock::kResiduals;

  __device__ uint64_t* Full(int place) const { return kOfA ? block_.FullA(place) : block_.FullResidual(place); }
  __device__ void Copy(int place, int row) const {
    BarrierExpect(Full(place), kOfA ? kTileBytes : SharedFloat::kResidualBytes);
    if constexpr (kOfA) {
      TmaLoad3d(block_.A(place), &p_.a, Full(place), 0, row, 0);
    } else {
      TmaLoad3d(block_.Residual(place), &p_.residual_tiles, Full(place), 0, row, block_.column0 / 32);
    }
  }

  const RowGemmParameters& p_;
  const FloatBlock& block_;
  const int first_row_;
};

// What has to be there before the first product, by a warp.
__device__ inline void StartFloat(const RowGemmParameters& p, const FloatBlock& block) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int i = lane; i < SharedFloat::kNumBarriers; i += 32) {
    BarrierInit(block.Barrier(i), block.Barrier(i) < block.EmptyA(0) ? 1 : 4 * kGroups);
  }
  BarrierInitFence();
  __syncwarp();
  if (lane == 0) {
    TmaPrefetchMap(&p.a);
    if (p.residual != nullptr) TmaPrefetchMap(&p.residual_tiles);
    // All columns of 64 of K at once, those first that are to be held; not all blocks begin with the same.
#pragma unroll 1
    for (int i = 0; i < FloatBlock::kSteps; ++i) {
      const int k = i ^ static_cast<int>(blockIdx.x % 2);
      BarrierExpect(block.FullW(k), kBlockN * kSwizzleRowBytes);
      TmaLoad2d(block.Weight(k, 0), &p.w, block.FullW(k), k * kTileColumns, block.column0);
    }
  }
  __syncwarp();
}

// One of the warpgroups that multiply.
template <typename T>
class FloatColumns {
 public:
  __device__ FloatColumns(const RowGemmParameters& p, const FloatBlock& block, int warp)
      : p_(p),
        block_(block),
        warp_(warp),
        lane_(static_cast<int>(threadIdx.x) % 32),
        epilogue_(p, block.column0 + warp / 4 * kGroupN) {}

  __device__ void Run() {
    __syncthreads();
    HoldWeights();
    WaitForPreviousKernel();
    const FloatRows rows(RowLimit(p_));
    BarrierWait(block_.HeldW(), 0);  // results go where W was
    for (int k = kHeldK / kTileColumns; k < FloatBlock::kSteps; ++k) BarrierWait(block_.FullW(k), 0);
    const int tiles = rows.tiles();
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      float sum[kTileRows / 2];
      MultiplyTile<T>(block_, w_, warp_ / 4, lane_, tile_, sum);
      Store(sum, rows.Row(tile), rows.Count(tile));
    }
  }

 private:
  __device__ void HoldWeights() {
    const int group = warp_ / 4, row = warp_ % 4 * 16 + lane_ % 16;
#pragma unroll
    for (int k = 0; k < kHeldSteps; ++k) {
      if (k % 4 == 0) BarrierWait(block_.FullW(k / 4), 0);
      LoadMatrices(w_[k], SharedAddress(block_.Weight(k / 4, group) + SwizzledByte(row, k % 4 * 16 + lane_ / 16 * 8)));
    }
    FenceAsyncProxy();
    __syncwarp();
    if (lane_ == 0) BarrierArrive(block_.HeldW());
  }
  __device__ void Store(const float (&sum)[kTileRows / 2], int row0, int count) {
    if (p_.residual != nullptr) BarrierWait(block_.FullResidual(residual_.place), residual_.parity);
    epilogue_.Store(sum, block_.Residual(residual_.place), row0, count);
    FenceAsyncProxy();
    __syncwarp();
    if (lane_ == 0) BarrierArrive(block_.EmptyResidual(residual_.place));
    residual_.Next(FloatBlock::kResiduals);
  }

  const RowGemmParameters& p_;
  const FloatBlock& block_;
  const int warp_, lane_;
  FloatEpilogue epilogue_;
  HeldWeights w_;
  RingPlace tile_, residual_;  // the next of A and of the residual
};

template <typename T>
__global__ void __launch_bounds__(kFloatThreads, 1) FloatKernel(const __grid_constant__ RowGemmParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  const FloatBlock block(shared);
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);
  constexpr int kOfA = kColumnThreads / 32;
  if (warp == kOfA) StartFloat(p, block);
  if (warp < kOfA) {
    FloatColumns<T>(p, block, warp).Run();
  } else {
    __syncthreads();
    const bool works = threadIdx.x % 32 == 0;
    WaitForPreviousKernel();
    if (works && warp == kOfA) FloatCopies<true>(p, block).Run();
    if (works && warp > kOfA && p.residual != nullptr) FloatCopies<false>(p, block).Run();
    __syncwarp();
  }
#endif
}

}  // namespace ting::cuda::stationary
