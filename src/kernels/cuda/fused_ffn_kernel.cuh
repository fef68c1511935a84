// src/kernels/cuda/fused_ffn_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Device side of fused_ffn.h. A cluster is `sharing` row tiles x `split` slices of the hidden units; a block owns one
// tile of 32, 64 or 128 rows and one slice. Two warpgroups multiply; one warp more streams weights.
//
//   start      X = T(norm(x)) to shared memory
//   128 rows   A warpgroup has 64 rows. For each chunk of 64 hidden units:
//                h [64, 64]    = X W1c^T           both operands in shared memory
//                a             = T(act(h + b1))    in registers: accumulators packed are the next A operand
//                acc [64, 256] += a W2c^T
//              with the first product of the next chunk issued before the second of this one, so that the tensor cores
//              have work during the activation
//   64 rows    Both have the same rows, each 64 of 128 hidden units and then 128 of 256 columns, so that few rows take
//              half the time; the hidden units pass through shared memory. Sums are made in the same order as above.
//   32 rows    The same with all products transposed, because the first operand of wgmma has no less than 64 rows: few
//              rows are spread over more multiprocessors, and each sends half as many sums.
//   producer   W1[0], W1[1], W2[0], W1[2], W2[1], ... through a ring of 32 KB stages; the first of them before the
//              previous kernel has ended, because weights do not depend on it
//   end        block j of a tile finishes rows j, j + split, ...: it adds the others' sums of them, which it reads
//   where
//              they are or, of 32-row tiles, has been sent, in the order of the slices
//
// Bounds for D = 256, F = 2048 (1.05 MFLOP a row and product, 2 MB of weights), in clocks of an SM. 64 rows and a chunk
// are 512 + 512 of tensor cores, 512 of special functions for swish (2 a hidden unit, 16 a clock), and of shared memory
// 512 + 256 (64 x 256 operands) and 512 (arriving weights; once for 128 rows). So 128 rows and a chunk take at least
// 2048, bound by tensor cores and shared memory alike, and 64 rows 1470, bound by shared memory. Batch 64 (M = 7936) on
// 124 SMs: 16 chunks of 128 rows, 32 800 clocks or 18 us, plus the ends; measured, 2750 clocks a chunk and 22 000 for
// the ends, of which 7000 go by until x is there (both slices read it from L2, 16 MB in all) and 12 000 on sums. Two
// other orders were tried: turns of the warpgroups at the tensor cores, with 128 hidden units at a time (37 to 40 us
// instead of 35.4), and products issued between parts of the activation (35.0 instead of 34.6). Batch 1 with 16 slices:
// both products of 128 hidden units and the activation one after the other, 2700 clocks, bound by the weights in shared
// memory; then 30 KB of sums for the other blocks, at 14 to 18 bytes a clock of remote shared memory however they are
// sent (stores and bulk copies alike; loads 10). Registers, 128 rows: 128 + 32 accumulators and 16 of the A operand, so
// that the producer is a whole warpgroup, which hands its registers to the others.
#pragma once

#include "kernels/cuda/fused_ffn_rows.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ __forceinline__ Place FindPlace(const Arguments& arguments, int tile_rows) {
  const int split = arguments.split, sharing = arguments.sharing;
  const int rank = static_cast<int>(ClusterRank());
  const int cluster = static_cast<int>(blockIdx.x) / (split * sharing);
  Place place;
  place.slice = rank % split;
  place.tile = rank / split;
  const int first_unit = arguments.units * place.slice / split;
  const int last_unit = arguments.units * (place.slice + 1) / split;
  place.first_chunk = first_unit * arguments.unit_chunks;
  place.chunks = (last_unit - first_unit) * arguments.unit_chunks;
  place.cluster_first_row = cluster * sharing * tile_rows;
  place.first_row = place.cluster_first_row + place.tile * tile_rows;
  return place;
}

// A stage of the ring and the parity of its use; producer and consumers walk alike.
struct Cursor {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void Next(int stages, int step = 1) {
    slot += step;
    if (slot >= stages) slot -= stages, parity ^= 1;
  }
};

struct Ring {
  uint64_t* full;
  uint64_t* empty;
  uint8_t* data;
  int stages;
  __device__ __forceinline__ uint8_t* Stage(int slot) const { return data + slot * kStageBytes; }
};

// ---- producer: one thread ------------------------------------------------------------------------------------------

// kTurnStages stages of W1[0], then of W1[1], W2[0], W1[2], W2[1], ..., W2[last]: of 64 hidden units with one stage, in
// which W1 is [4][64 units, 64] and W2 is [4][64 columns, 64]; of 128 hidden units with one for each warpgroup, its
// units of W1 and its columns of W2, the latter as [2][128 columns, 64]; of 32-row tiles, 64 columns of each half.
template <int kTileRows>
class Producer {
 public:
  __device__ __forceinline__ Producer(const Arguments& arguments, const Ring& ring, const Place& place)
      : arguments_(arguments), ring_(ring), place_(place), turns_(2 * place.chunks / kTurnStages) {
    for (int i = 0; i < arguments.sharing; ++i) mask_ |= 1U << (place.slice + i * arguments.split);
  }
  __device__ __forceinline__ int Stages() const { return turns_ * kTurnStages; }
  __device__ __forceinline__ void LoadUntil(int end) {
    for (; next_ < end && next_ < Stages(); ++next_) {
      if (next_ >= ring_.stages) BarrierWait(&ring_.empty[cursor_.slot], cursor_.parity ^ 1);
      BarrierExpect(&ring_.full[cursor_.slot], kStageBytes);
      for (int box = place_.tile; box < kStageBoxes; box += arguments_.sharing) Load(SourceOf(next_, box), box);
      cursor_.Next(ring_.stages);
    }
  }
  // The weights of all layers exceed L2, and a ring is too short for the latency of memory: all tiles together ask for
  // the slice at once.
  __device__ __forceinline__ void PrefetchRest() const {
    const int blocks = arguments_.split * arguments_.sharing;
    const int tiles = static_cast<int>(gridDim.x) / blocks * arguments_.sharing;
    const int tile = static_cast<int>(blockIdx.x) / blocks * arguments_.sharing + place_.tile;
    for (int i = ring_.stages * kStageBoxes + tile; i < Stages() * kStageBoxes; i += tiles) {
      const Source source = SourceOf(i / kStageBoxes, i % kStageBoxes);
      if (source.second) {
        TmaPrefetch2d(&arguments_.w2, source.x, source.y);
      } else if (kTileRows == 32) {
        TmaPrefetch4d(&arguments_.w1, source.x, 0, 0, source.y / 16);
      } else {
        TmaPrefetch2d(&arguments_.w1, source.x, source.y);
      }
    }
  }

 private:
  static constexpr int kTurnStages = kTileRows == 128 ? 1 : 2;
  struct Source {
    bool second;  // W2
    int x, y;
  };

  __device__ __forceinline__ Source SourceOf(int stage, int box) const {
    const int turn = stage / kTurnStages, part = stage % kTurnStages;
    const bool second = turn > 0 && (turn % 2 == 0 || turn + 1 == turns_);
    const int index = !second ? (turn + 1) / 2 : turn + 1 == turns_ ? turns_ / 2 - 1 : turn / 2 - 1;
    const int unit = (place_.first_chunk + index * kTurnStages) * kChunk;
    if (!second) return {second, box * 64, unit + part * kChunk};
    if (kTurnStages == 1) return {second, unit, box * 64};
    if (kTileRows == 32) return {second, unit + box / 2 * 64, part * 64 + box % 2 * kHalfD};
    return {second, unit + box / 2 * 64, part * 128 + box % 2 * 64};
  }
  __device__ __forceinline__ void Load(const Source& source, int box) {
    const CUtensorMap& map = source.second ? arguments_.w2 : arguments_.w1;
    uint8_t* target = ring_.Stage(cursor_.slot) + box * kBoxBytes;
    uint64_t* full = &ring_.full[cursor_.slot];
    if (kTileRows == 32 && !source.second) {
      TmaLoad4d(target, &map, full, source.x, 0, 0, source.y / 16);
    } else if (kTileRows == 32 || arguments_.sharing == 1) {
      TmaLoad2d(target, &map, full, source.x, source.y);
    } else {
      TmaLoad2dMulticast(target, &map, full, source.x, source.y, static_cast<uint16_t>(mask_));
    }
  }

  const Arguments& arguments_;
  const Ring& ring_;
  const Place& place_;
  const int turns_;
  int next_ = 0;
  Cursor cursor_;
  uint32_t mask_ = 0;
};

// ---- products ------------------------------------------------------------------------------------------------------

// Approximate instructions for swish, whose error (2 ulp each) is far below the rounding to T that follows. exp2 is
// infinite and swish 0 for large negative v.
__device__ __forceinline__ float Swish(float v) {
  float e, r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(v * -1.44269504F));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1.0F + e));
  return v * r;
}
template <Activation kActivation>
__device__ __forceinline__ void ActivatePair(float& u, float& v) {
  if constexpr (kActivation == Activation::kSwish) {
    u = Swish(u), v = Swish(v);
  } else {
    u = Activate<kActivation>(u), v = Activate<kActivation>(v);
  }
}

using HiddenAccumulators = float[32];
using HiddenOperand = uint32_t[4][4];  // the A operand of four products of depth 16

template <typename T>
__device__ __forceinline__ void IssueFirst(HiddenAccumulators& h, uint64_t x, uint64_t w1) {
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
    const int offset = (k / 4) * (kBoxBytes >> 4) + (k % 4) * 2;
    Wgmma<T, 64>::SS(h, x + offset, w1 + offset, k > 0);
  }
  WgmmaCommit();
}
template <typename T>
__device__ __forceinline__ void IssueSecond(float (&acc)[128], const HiddenOperand& a, uint64_t w2) {
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kChunk / 16; ++k) Wgmma<T, 256>::RS(acc, a[k], w2 + 2 * k, true);
  WgmmaCommit();
}

// Columns of 64 rows by 128 hidden units in shared memory.
template <typename T>
__device__ __forceinline__ void IssueColumns(float (&acc)[64], uint64_t hidden, uint64_t w2, bool accumulate) {
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < 2 * kChunk / 16; ++k) {
    const int offset = (k % 4) * 2;
    Wgmma<T, 128>::SS(acc, hidden + (k / 4) * (kBoxBytes >> 4) + offset, w2 + (k / 4) * (2 * kBoxBytes >> 4) + offset,
                      accumulate || k > 0);
  }
  WgmmaCommit();
}

template <Activation kActivation>
__device__ __forceinline__ void ActivateChunk(HiddenAccumulators& h, const float* bias) {
#pragma unroll
  for (int block = 0; block < 8; ++block) {  // of 8 columns
    const float2 b = *reinterpret_cast<const float2*>(bias + 8 * block);
    float* v = h + 4 * block;
    v[0] += b.x, v[1] += b.y, v[2] += b.x, v[3] += b.y;
    ActivatePair<kActivation>(v[0], v[1]);
    ActivatePair<kActivation>(v[2], v[3]);
  }
}
template <typename T>
__device__ __forceinline__ void PackChunk(const HiddenAccumulators& h, HiddenOperand& a) {
#pragma unroll
  for (int i = 0; i < 16; ++i) a[i / 4][i % 4] = PackPair<T>(h[2 * i], h[2 * i + 1]);
}

// The slice's share of acc = act(X W1^T + b1) W2^T for the 64 rows of a warpgroup.
template <typename T, Activation kActivation>
__device__ __forceinline__ void MultiplyRows(float (&acc)[128], const Arguments& arguments, const Ring& ring,
                                             const Place& place, const uint8_t* group_x, const float* bias, int lane) {
  const uint64_t x = TileDescriptor(group_x);
  const float* lane_bias = bias + 2 * (lane % 4);
  Cursor cursor;
  const auto wait = [&] { BarrierWait(&ring.full[cursor.slot], cursor.parity); };
  const auto release = [&](int slot) {  // to every block that fills this slot
    if (lane < arguments.sharing) BarrierArriveRemote(&ring.empty[slot], place.slice + lane * arguments.split);
  };
  HiddenAccumulators h;
  HiddenOperand a;
#pragma unroll
  for (int i = 0; i < 128; ++i) acc[i] = 0;

  wait();
  IssueFirst<T>(h, x, TileDescriptor(ring.Stage(cursor.slot)));
  WgmmaWait<0>();
  WgmmaHold(h);
  release(cursor.slot);
  cursor.Next(ring.stages);
  ActivateChunk<kActivation>(h, lane_bias);
  PackChunk<T>(h, a);
  for (int chunk = 1; chunk < place.chunks; ++chunk) {
    wait();
    IssueFirst<T>(h, x, TileDescriptor(ring.Stage(cursor.slot)));
    const int first_slot = cursor.slot;
    cursor.Next(ring.stages);
    wait();
    IssueSecond<T>(acc, a, TileDescriptor(ring.Stage(cursor.slot)));
    WgmmaWait<1>();
    WgmmaHold(h);
    release(first_slot);
    ActivateChunk<kActivation>(h, lane_bias + chunk * kChunk);
    WgmmaWait<0>();
    WgmmaHold(acc);
    release(cursor.slot);
    cursor.Next(ring.stages);
    PackChunk<T>(h, a);  // not before: operands of a running product must not be written, or ptxas serialises all
  }
  wait();
  IssueSecond<T>(acc, a, TileDescriptor(ring.Stage(cursor.slot)));
  WgmmaWait<0>();
  WgmmaHold(acc);
  release(cursor.slot);
}

// The slice's share of 128 columns of the same, for the only 64 rows, together with the other warpgroup; `hidden` is
// [2][64, 64], to which each adds one tile.
template <typename T, Activation kActivation>
__device__ __forceinline__ void MultiplyColumns(float (&acc)[64], const Arguments& arguments, const Ring& ring,
                                                const Place& place, const uint8_t* x_tiles, uint8_t* hidden,
                                                const float* bias, int group, int warp, int lane) {
  const uint64_t x = TileDescriptor(x_tiles), both = TileDescriptor(hidden);
  const float* lane_bias = bias + group * kChunk + 2 * (lane % 4);
  uint8_t* tile = hidden + group * kBoxBytes;
  const int row = warp % 4 * 16 + lane % 16, column = lane / 16 * 8;  // whose address the lane gives to StoreMatrices
  Cursor cursor{group, 0};
  const auto wait = [&] { BarrierWait(&ring.full[cursor.slot], cursor.parity); };
  const auto release = [&](int slot) {
    if (lane < arguments.sharing) BarrierArriveRemote(&ring.empty[slot], place.slice + lane * arguments.split);
  };
  const auto publish = [&](const HiddenOperand& a) {
#pragma unroll
    for (int k = 0; k < 4; ++k) StoreMatrices(tile + SwizzledByte(row, 16 * k + column), a[k]);
    FenceAsyncProxy();
    NamedBarrier(1, kConsumers);
  };
  HiddenAccumulators h;
  HiddenOperand a;

  wait();
  IssueFirst<T>(h, x, TileDescriptor(ring.Stage(cursor.slot)));
  WgmmaWait<0>();
  WgmmaHold(h);
  release(cursor.slot);
  cursor.Next(ring.stages, 2);
  ActivateChunk<kActivation>(h, lane_bias);
  PackChunk<T>(h, a);
  publish(a);
  const int turns = place.chunks / 2;
  for (int turn = 1; turn < turns; ++turn) {
    wait();
    IssueFirst<T>(h, x, TileDescriptor(ring.Stage(cursor.slot)));
    const int first_slot = cursor.slot;
    cursor.Next(ring.stages, 2);
    wait();
    IssueColumns<T>(acc, both, TileDescriptor(ring.Stage(cursor.slot)), turn > 1);
    WgmmaWait<1>();
    WgmmaHold(h);
    release(first_slot);
    ActivateChunk<kActivation>(h, lane_bias + turn * 2 * kChunk);
    PackChunk<T>(h, a);
    WgmmaWait<0>();
    WgmmaHold(acc);
    release(cursor.slot);
    cursor.Next(ring.stages, 2);
    NamedBarrier(1, kConsumers);  // both have read the hidden units
    publish(a);
  }
  wait();
  IssueColumns<T>(acc, both, TileDescriptor(ring.Stage(cursor.slot)), turns > 1);
  WgmmaWait<0>();
  WgmmaHold(acc);
  release(cursor.slot);
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
