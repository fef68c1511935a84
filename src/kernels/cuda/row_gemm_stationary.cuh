// src/kernels/cuda/row_gemm_stationary.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The weight-stationary form of row_gemm, for products of K = 256 with many rows. Every multiprocessor has one block of
// 256 columns, and every block the same number of rows, whatever that is. W stays, half of it in registers: it is the
// first operand of transposed products (the order of summation is the same). Rows pass by in tiles of 32, so that
// reads, norms, products and writes of different tiles overlap, in loops short enough for cold instruction caches.
//   rows       two warpgroups fetch f32 rows in units of 16 and normalise them into tiles of A; or one lane copies tiles
//              of A
//   columns    four warpgroups, each 64 columns: multiply a tile, store it
// The form for f32 results is in row_gemm_stationary_float.cuh.
// What bounds it (H100): of f32 rows the norm, whose passes of four rows took a warp 2,200 clocks, nearly all latency;
// to read gamma and beta ahead took 570 clocks off a tile. The columns' warpgroups wait most of the time, and three
// blocks normalise the same rows if N = 768. What went before: one warpgroup of rows beside all of W in the others'
// registers (q, k, v of 10,304 rows: 26.9 us against 18.7); products issued ahead of the results before them, without
// gain.
#pragma once

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/row_gemm_kernel.cuh"
#include "kernels/cuda/row_gemm_stationary_epilogue.cuh"
#include "kernels/cuda/row_gemm_stationary_float.cuh"
#include "kernels/cuda/row_gemm_stationary_tile.cuh"

namespace ting::cuda::stationary {

// What a block works on, and where its shared memory lies.
struct Block {
  using Layout = Shared;
  static constexpr int kTiles = Layout::kTiles, kUnits = Layout::kUnits, kFirstUnits = Layout::kFirstUnits;

  __device__ Block(const RowGemmParameters& p, uint8_t* shared_memory)
      : row0(static_cast<int>(blockIdx.x) * p.rows),
        column0(static_cast<int>(blockIdx.y) * kBlockN),
        shared(shared_memory + ((1024 - (SharedAddress(shared_memory) & 1023)) & 1023)) {}
  // Tiles of the block's rows before row `limit`.
  __device__ int Tiles(const RowGemmParameters& p, int limit) const {
    return max(min(limit - row0, p.rows) + kTileRows - 1, 0) / kTileRows;
  }
  __device__ uint8_t* Weight(int k, int group) const { return shared + (k * kGroups + group) * kWeightTileBytes; }
  __device__ uint8_t* Staging(int group, int turn) const { return shared + (2 * group + turn) * kStagingBytes; }
  __device__ uint8_t* A(int place) const { return shared + Layout::kA + place * kTileBytes; }
  __device__ float* Unit(int place) const {
    const int offset = place < kFirstUnits ? Layout::kUnit0 + place * kUnitBytes
                                           : Layout::kStaging + (place - kFirstUnits) * kUnitBytes;
    return reinterpret_cast<float*>(shared + offset);
  }

  __device__ float* Gamma() const { return reinterpret_cast<float*>(shared + Layout::kGamma); }  // then beta
  __device__ uint64_t* Barrier(int i) const { return reinterpret_cast<uint64_t*>(shared + Layout::kBarriers) + i; }
  __device__ uint64_t* FullW(int group) const { return Barrier(group); }
  __device__ uint64_t* FullA(int place) const { return Barrier(kGroups + place); }
  __device__ uint64_t* EmptyA(int place) const { return FullA(kTiles + place); }
  // Of the rows that a warp fetches for itself.
  __device__ uint64_t* FullUnit(int place, int warp) const { return EmptyA(kTiles + 4 * place + warp); }
  __device__ uint64_t* EmptyUnit(int place) const { return FullUnit(kUnits, place); }
  __device__ uint64_t* HeldW() const { return EmptyUnit(kUnits); }  // in registers, so that its place is free
  __device__ uint64_t* FullNorm() const { return HeldW() + 1; }

  const int row0, column0;
  uint8_t* const shared;
};

template <typename T>
class RowWarp {
 public:
  __device__ RowWarp(const RowGemmParameters& p, const Block& block)
      : p_(p),
        block_(block),
        warp_(__shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32 - 4 * kGroups, 0)),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void Run() {
    if (warp_ == 0) Start();
    if (p_.gamma == nullptr) {  // v * 1 + 0
      for (int k = 32 * warp_ + lane_; k < kK; k += kRowGroups * 128) block_.Gamma()[k] = 1, block_.Gamma()[kK + k] = 0;
    }
    __syncthreads();
    WaitForPreviousKernel();
    if (p_.x_f32 != nullptr) return NormaliseRows();
    if (warp_ == 0) CopyTiles();
    __syncwarp();
  }

 private:
  __device__ void Start() const {
    if (lane_ == 0) TmaPrefetchMap(&p_.w);
    const bool norms = p_.x_f32 != nullptr;
#pragma unroll 1
    for (int i = lane_; i < Block::Layout::kNumBarriers; i += 32) {
      uint64_t* barrier = block_.Barrier(i);
      uint32_t arrivals = 1;
      if (barrier >= block_.FullA(0) && barrier < block_.EmptyA(0)) arrivals = norms ? 8 : 1;  // four warps, two units
      if (barrier >= block_.EmptyA(0) && barrier < block_.FullUnit(0, 0)) arrivals = 4 * kGroups;
      if (barrier >= block_.EmptyUnit(0) && barrier <= block_.HeldW()) arrivals = 4 * kGroups;
      BarrierInit(barrier, arrivals);
    }
    BarrierInitFence();
    __syncwarp();
    if (lane_ == 0) {
      if (p_.gamma != nullptr) {
        BarrierExpect(block_.FullNorm(), 2 * kK * 4);
        BulkLoad(block_.Gamma(), p_.gamma, block_.FullNorm(), kK * 4);
        BulkLoad(block_.Gamma() + kK, p_.beta, block_.FullNorm(), kK * 4);
      }
      for (int group = 0; group < kGroups; ++group) LoadWeight((group + static_cast<int>(blockIdx.x)) % kGroups);
    }
    __syncwarp();
  }
  __device__ void LoadWeight(int group) const {
    BarrierExpect(block_.FullW(group), kWeightBytes / kGroups);
#pragma unroll 1
    for (int k = 0; k < kK / kTileColumns; ++k) {
      TmaLoad2d(block_.Weight(k, group), &p_.w, block_.FullW(group), k * kTileColumns,
                block_.column0 + group * kGroupN);
    }
  }

  // Four rows of every other unit, which the warp fetches for itself. What is fetched at first does not wait for the
  // number of rows: x has M.
  __device__ void NormaliseRows() const {
    const int first = min(2 * block_.Tiles(p_, p_.M), Block::kUnits);
#pragma unroll 1
    for (int unit = warp_ / 4; unit < first; unit += 2) {
      if (unit >= Block::kFirstUnits) BarrierWait(block_.HeldW(), 0);
      FetchRows(unit, unit);
    }
    const int units = 2 * block_.Tiles(p_, RowLimit(p_));
    const RowNorm norm{nullptr, 0, block_.Gamma(), block_.Gamma() + kK, p_.gamma != nullptr, p_.eps};
    if (p_.gamma != nullptr) BarrierWait(block_.FullNorm(), 0);
    Place at{warp_ / 4}, tile;
#pragma unroll 1
    for (int unit = warp_ / 4; unit < units; unit += 2) {
      BarrierWait(block_.FullUnit(at.place, warp_ % 4), at.parity);
      const auto ready = [&] { BarrierWait(block_.EmptyA(tile.place), tile.parity ^ 1); };
      uint8_t* target = block_.A(tile.place) + unit % 2 * kUnitRows * kSwizzleRowBytes;
      norm.FourRows<T, kK, kTileRows>(block_.Unit(at.place), kPitch, warp_ % 4, target, ready);
      FenceAsyncProxy();
      __syncwarp();
      if (lane_ == 0) BarrierArrive(block_.FullA(tile.place));
      if (unit + Block::kUnits < units) FetchRows(unit + Block::kUnits, at.place);
      at.place += 2;
      if (at.place >= Block::kUnits) at.place -= Block::kUnits, at.parity ^= 1;
      tile.Next(Block::kTiles);
    }
#pragma unroll 1
    for (int unit = warp_ / 4 + units; unit < first; unit += 2) BarrierWait(block_.FullUnit(unit, warp_ % 4), 0);
  }
  __device__ void FetchRows(int unit, int place) const {
    const int own = RowNorm::RowOf(warp_ % 4, 8 * lane_ % 32), row = kUnitRows * unit + own;
    const bool wanted = lane_ < 4 && row < p_.rows && block_.row0 + row < p_.M;
    Fetch(wanted, block_.Unit(place) + own * kPitch, p_.x_f32 + (block_.row0 + row) * p_.x_stride,
          block_.FullUnit(place, warp_ % 4));
  }
  // A row for each lane that wants one.
  __device__ void Fetch(bool wanted, float* target, const float* row, uint64_t* barrier) const {
    const int count = __popc(__ballot_sync(0xFFFFFFFF, wanted));
    if (lane_ == 0) BarrierExpect(barrier, static_cast<uint32_t>(count) * kK * 4);
    __syncwarp();
    if (wanted) BulkLoad(target, row, barrier, kK * 4);
  }

  __device__ void CopyTiles() const {
    if (lane_ != 0) return;
    const int first = min(block_.Tiles(p_, p_.M), Block::kTiles);
    for (int tile = 0; tile < first; ++tile) LoadTile(tile, tile);
    const int tiles = block_.Tiles(p_, RowLimit(p_));
    Place at;
#pragma unroll 1
    for (int tile = Block::kTiles; tile < tiles; ++tile) {
      BarrierWait(block_.EmptyA(at.place), at.parity);
      LoadTile(tile, at.place);
      at.Next(Block::kTiles);
    }
    for (int tile = tiles; tile < first; ++tile) BarrierWait(block_.FullA(tile), 0);
  }
  __device__ void LoadTile(int tile, int place) const {
    BarrierExpect(block_.FullA(place), kTileBytes);
#pragma unroll 1
    for (int k = 0; k < kK / kTileColumns; ++k) {
      TmaLoad2d(block_.A(place) + k * kTileRows * kSwizzleRowBytes, &p_.a, block_.FullA(place), k * kTileColumns,
                block_.row0 + tile * kTileRows);
    }
  }

  const RowGemmParameters& p_;
  const Block& block_;
  const int warp_, lane_;
};

// One of the warpgroups that multiply.
template <typename T, RowGemmOutput kOutput>
class ColumnGroup {
 public:
  __device__ ColumnGroup(const RowGemmParameters& p, const Block& block)
      : p_(p),
        block_(block),
        warp_(__shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0)),
        lane_(static_cast<int>(threadIdx.x) % 32),
        epilogue_(p, block.column0 + warp_ / 4 * kGroupN) {}

  __device__ void Run() {
    __syncthreads();
    HoldWeights();
    WaitForPreviousKernel();
    const int limit = min(RowLimit(p_), block_.row0 + p_.rows), tiles = block_.Tiles(p_, limit);
    BarrierWait(block_.HeldW(), 0);  // results go where W was
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      const int row0 = block_.row0 + tile * kTileRows;
      epilogue_.FindScatteredRows(row0);
      Sums sum;
      MultiplyTile<T>(block_, w_, warp_ / 4, lane_, tile_, sum);
      epilogue_.StoreHalf(sum, block_.Staging(warp_ / 4, tile % 2), row0, limit - row0);
    }
  }

 private:
  __device__ void HoldWeights() {
    const int group = warp_ / 4, row = warp_ % 4 * 16 + lane_ % 16;
    BarrierWait(block_.FullW(group), 0);
#pragma unroll
    for (int k = 0; k < kHeldSteps; ++k) {
      LoadMatrices(w_[k], SharedAddress(block_.Weight(k / 4, group) + SwizzledByte(row, k % 4 * 16 + lane_ / 16 * 8)));
    }
    FenceAsyncProxy();
    __syncwarp();
    if (lane_ == 0) BarrierArrive(block_.HeldW());
  }

  const RowGemmParameters& p_;
  const Block& block_;
  const int warp_, lane_;
  Epilogue<T, kOutput> epilogue_;
  HeldWeights w_;
  Place tile_;  // the next of A
};

template <typename T, RowGemmOutput kOutput>
__global__ void __launch_bounds__(kThreads, 1) Kernel(const __grid_constant__ RowGemmParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  const Block block(p, shared);
  if (threadIdx.x >= kGroups * 128) {
    RowWarp<T>(p, block).Run();
  } else {
    ColumnGroup<T, kOutput>(p, block).Run();
  }
#endif
}

template <typename T>
RowGemmKernelFunction FindKernel(RowGemmOutput output) {
  if (output == RowGemmOutput::kFloat) return FloatKernel<T>;
  return output == RowGemmOutput::kGlu ? Kernel<T, RowGemmOutput::kGlu> : Kernel<T, RowGemmOutput::kHalf>;
}

}  // namespace ting::cuda::stationary
