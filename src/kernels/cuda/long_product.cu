// src/kernels/cuda/long_product.cu
// SPDX-License-Identifier: Apache-2.0
//
// The kernel of long_product. A block is one or two warpgroups that multiply, 64 rows each, and two warps whose first
// lanes fill a ring of x and one of W. The blocks of a cluster that have the segments of one tile leave their sums in
// their shared memory and finish equal shares of its rows.
// What bounds it (H100, inside the model): the tensor cores at 7,936 rows (25 of 36 us; 3 us until the first of x is
// there, about 3 us for the exchange of sums); L2 for fewer. x is the first to leave L2 again: what the convolutions
// left there would otherwise be thrown out before it is read (39 us against 48).
// Tried without gain: W for two tiles of rows by multicast; clusters of six to eight, of which one ran after the rest.
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/long_product_kernel.h"
#include "kernels/cuda/ring_place.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda::longk {

// What a block works on, and where its shared memory lies.
template <int kGroups, int kColumns>
struct Block {
  using L = Layout<kGroups, kColumns>;

  __device__ Block(const Parameters& p, uint8_t* shared_memory)
      : shared(shared_memory + BytesToTile(shared_memory)) {
    segment = static_cast<int>(blockIdx.x) % p.split;
    row0 = static_cast<int>(blockIdx.x) / p.split * L::kRows;
    column0 = static_cast<int>(blockIdx.y) * kColumns;
    const int tiles = p.K / kTileColumns;
    first_tile = tiles * segment / p.split;
    num_tiles = tiles * (segment + 1) / p.split - first_tile;
  }
  __device__ uint8_t* X(int place) const { return shared + place * L::kBoxX; }
  __device__ uint8_t* W(int place) const { return shared + L::kW + place * L::kBoxW; }
  __device__ uint64_t* Barrier(int i) const { return reinterpret_cast<uint64_t*>(shared + L::kBarriers) + i; }
  __device__ uint64_t* FullX(int place) const { return Barrier(place); }
  __device__ uint64_t* EmptyX(int place) const { return FullX(L::kStagesX + place); }
  __device__ uint64_t* FullW(int place) const { return EmptyX(L::kStagesX + place); }
  __device__ uint64_t* EmptyW(int place) const { return FullW(L::kStagesW + place); }
  // Four sums of a row of the tile. Rows that differ modulo 4 have them in different banks.
  __device__ uint8_t* Sums(int row, int column) const {
    const int chunk = column / 32, four = column % 32 / 4 ^ ((row & 3) << 1);
    return shared + (chunk * L::kRows + row) * 128 + four * 16;
  }

  uint8_t* const shared;
  int segment, row0, column0, first_tile, num_tiles;
};

__device__ inline int RowLimit(const Parameters& p) {
  return p.num_rows != nullptr ? min(*p.num_rows, p.M) : p.M;
}

// Fills one of the two rings: work of one lane. W is on its way before the previous kernel has ended.
template <int kGroups, int kColumns, bool kOfW>
class Producer {
 public:
  using B = Block<kGroups, kColumns>;
  using L = typename B::L;
  __device__ Producer(const Parameters& p, const B& block) : p_(p), block_(block) {}

  __device__ void Run() {
    if (!kOfW) WaitForPreviousKernel();
    const int boxes = (block_.num_tiles + kTiles - 1) / kTiles, ahead = min(boxes, kStages);
#pragma unroll 1
    for (int box = 0; box < ahead; ++box) Load(box, box);
    if (kOfW) WaitForPreviousKernel();
    if (block_.row0 >= RowLimit(p_)) {  // a block must outlive the copies into its memory
      for (int box = 0; box < ahead; ++box) BarrierWait(Full(box), 0);
      return;
    }
    RingPlace at;
#pragma unroll 1
    for (int box = ahead; box < boxes; ++box) {
      BarrierWait(kOfW ? block_.EmptyW(at.place) : block_.EmptyX(at.place), at.parity);
      Load(box, at.place);
      at.Next(kStages);
    }
  }

 private:
  static constexpr int kTiles = kOfW ? 1 : L::kTilesX, kStages = kOfW ? L::kStagesW : L::kStagesX;

  __device__ uint64_t* Full(int place) const { return kOfW ? block_.FullW(place) : block_.FullX(place); }
  // A last box of two tiles that reaches into the next segment brings what nobody uses; beyond K, zeros.
  __device__ void Load(int box, int place) const {
    const int tile = block_.first_tile + box * kTiles;
    BarrierExpect(Full(place), kOfW ? L::kBoxW : L::kBoxX);
    if (kOfW) {
      TmaLoad2d(block_.W(place), &p_.w, Full(place), tile * kTileColumns, block_.column0);
    } else {
      TmaLoad3dOnce(block_.X(place), &p_.x, Full(place), 0, block_.row0, tile);
    }
  }

  const Parameters& p_;
  const B& block_;
};

template <typename T, int kGroups, int kColumns>
class Consumer {
 public:
  using B = Block<kGroups, kColumns>;
  using L = typename B::L;
  __device__ Consumer(const Parameters& p, const B& block)
      : p_(p),
        block_(block),
        thread_(static_cast<int>(threadIdx.x)),
        warp_(__shfl_sync(0xFFFFFFFF, thread_ / 32, 0)),
        lane_(thread_ % 32) {
    if (p.bias != nullptr) bias_ = *reinterpret_cast<const float4*>(p.bias + block.column0 + Column());
  }

  // The segment's sums, to where the cluster finds them.
  __device__ void Multiply() const {
    float sum[kColumns / 2];
    RingPlace x, w;
#pragma unroll 1
    for (int k = 0; k < block_.num_tiles; ++k) {
      const int in_x = k % L::kTilesX;
      if (in_x == 0) BarrierWait(block_.FullX(x.place), x.parity);
      BarrierWait(block_.FullW(w.place), w.parity);
      MultiplyTile(block_.X(x.place) + (in_x * L::kRows + warp_ / 4 * 64) * kSwizzleRowBytes, block_.W(w.place), k > 0,
                   sum);
      if (k > 0) {  // the tile before has been read
        WgmmaWait<1>();
        if (in_x == 0) Release(block_.EmptyX(x.Before(L::kStagesX)));
        Release(block_.EmptyW(w.Before(L::kStagesW)));
      }
      if (in_x == L::kTilesX - 1) x.Next(L::kStagesX);
      w.Next(L::kStagesW);
    }
    WgmmaWait<0>();
    WgmmaHold(sum);
    NamedBarrier(1, L::kConsumers);  // the other warpgroup may be reading the rings
    LeaveSums(sum);
  }

  // This block's share of the tile's rows.
  __device__ void Finish(int limit) const {
    if (p_.split == 1) FinishRows<1, 2>(limit);
    if (p_.split == 2) FinishRows<2, 2>(limit);
    if (p_.split == 3) FinishRows<3, 1>(limit);
  }

 private:
  static constexpr int kFours = kColumns / 4;  // of a row
  static constexpr int kStripRows = L::kConsumers / kFours, kStrips = L::kRows / kStripRows;  // stored at once

  __device__ int Column() const { return thread_ % kFours * 4; }

  __device__ static void MultiplyTile(const uint8_t* x, const uint8_t* w, bool accumulate, float (&sum)[kColumns / 2]) {
    const uint64_t a = TileDescriptor(x), b = TileDescriptor(w);
    WgmmaFence();
#pragma unroll
    for (int part = 0; part < kTileColumns / 16; ++part) {
      Wgmma<T, kColumns>::SS(sum, a + 2 * part, b + 2 * part, accumulate || part > 0);
    }
    WgmmaCommit();
  }
  __device__ void Release(uint64_t* empty) const {
    if (lane_ == 0) BarrierArrive(empty);
  }
  // Groups of columns that differ by 32 lie at constant distances: little code, as it runs once and cold.
  __device__ void LeaveSums(const float (&sum)[kColumns / 2]) const {
    constexpr int kChunk = L::kRows * 32, kLower = 8 * 32;  // floats to the next 32 columns, to the row 8 further on
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = 8 * i + 2 * (lane_ % 4);
      float* first = reinterpret_cast<float*>(block_.Sums(16 * warp_ + lane_ / 4, column)) + column % 4;
#pragma unroll
      for (int chunk = 0; chunk < kColumns / 32; ++chunk) {
        const float* v = &sum[4 * (4 * chunk + i)];
        *reinterpret_cast<float2*>(first + chunk * kChunk) = make_float2(v[0], v[1]);
        *reinterpret_cast<float2*>(first + chunk * kChunk + kLower) = make_float2(v[2], v[3]);
      }
    }
  }

  // The blocks take strips of rows in turn; the sums of kTogether strips are on their way at once. Few of them: the
  // exchange is bound by throughput, and the code runs cold (four times as many took 1.5 us longer).
  template <int kSplit, int kTogether>
  __device__ void FinishRows(int limit) const {
#pragma unroll 1
    for (int strip = block_.segment; strip < kStrips; strip += kSplit * kTogether) {
      float4 part[kTogether][kSplit];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) LoadParts<kSplit>(min(strip + i * kSplit, kStrips - 1), part[i]);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (strip + i * kSplit < kStrips) StoreFour<kSplit>(RowOf(strip + i * kSplit), limit, part[i]);
      }
    }
  }
  __device__ int RowOf(int strip) const { return strip * kStripRows + thread_ / kFours; }
  template <int kSplit>
  __device__ void LoadParts(int strip, float4 (&part)[kSplit]) const {
    const uint8_t* own = block_.Sums(RowOf(strip), Column());
#pragma unroll
    for (int i = 0; i < kSplit; ++i) {
      if (i == block_.segment) {
        part[i] = *reinterpret_cast<const float4*>(own);
      } else {
        part[i] = LoadRemote4(MapToBlock(own, static_cast<uint32_t>(i)));
      }
    }
  }
  template <int kSplit>
  __device__ void StoreFour(int row, int limit, const float4 (&part)[kSplit]) const {
    float4 v = part[0];
#pragma unroll
    for (int i = 1; i < kSplit; ++i) v.x += part[i].x, v.y += part[i].y, v.z += part[i].z, v.w += part[i].w;
    v = {p_.scale * (v.x + bias_.x), p_.scale * (v.y + bias_.y), p_.scale * (v.z + bias_.z),
         p_.scale * (v.w + bias_.w)};
    row += block_.row0;
    if (row < limit) *reinterpret_cast<float4*>(p_.y + row * p_.y_stride + block_.column0 + Column()) = v;
  }

  const Parameters& p_;
  const B& block_;
  const int thread_, warp_, lane_;
  float4 bias_ = {0, 0, 0, 0};
};

// By one warp.
template <int kGroups, int kColumns>
__device__ void InitBarriers(const Parameters& p, const Block<kGroups, kColumns>& block) {
  using L = Layout<kGroups, kColumns>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) TmaPrefetchMap(&p.w), TmaPrefetchMap(&p.x);
  if (lane < L::kStagesX) BarrierInit(block.FullX(lane), 1), BarrierInit(block.EmptyX(lane), 4 * kGroups);
  if (lane < L::kStagesW) BarrierInit(block.FullW(lane), 1), BarrierInit(block.EmptyW(lane), 4 * kGroups);
  BarrierInitFence();
}

template <typename T, int kGroups, int kColumns>
__global__ void __launch_bounds__(Layout<kGroups, kColumns>::kThreads, 1)
    Kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  const Block<kGroups, kColumns> block(p, shared);
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);
  const bool multiplies = warp < 4 * kGroups;
  const Consumer<T, kGroups, kColumns> consumer(p, block);
  if (warp == 4 * kGroups) InitBarriers(p, block);
  __syncthreads();
  if (warp == 4 * kGroups && threadIdx.x % 32 == 0) Producer<kGroups, kColumns, true>(p, block).Run();
  if (warp > 4 * kGroups && threadIdx.x % 32 == 0) Producer<kGroups, kColumns, false>(p, block).Run();
  __syncwarp();
  WaitForPreviousKernel();
  const int limit = RowLimit(p);
  if (block.row0 >= limit) return;
  if (multiplies) consumer.Multiply();
  ClusterSync();
  if (multiplies) consumer.Finish(limit);
  ClusterArriveRelaxed();  // a block's memory lives until all have read it
  ClusterWait();
#endif
}

template <typename T>
Function OfType(const LongProductConfig& c) {
  if (c.groups == 2 && c.columns == 256) return Kernel<T, 2, 256>;
  if (c.groups == 2 && c.columns == 128) return Kernel<T, 2, 128>;
  if (c.groups == 1 && c.columns == 128) return Kernel<T, 1, 128>;
  return nullptr;
}

Function FindKernel(DType type, const LongProductConfig& config) {
  if (type == DType::kF16) return OfType<__half>(config);
  return type == DType::kBF16 ? OfType<__nv_bfloat16>(config) : nullptr;
}

}  // namespace ting::cuda::longk
