// src/kernels/cuda/fused_ffn_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Device side of fused_ffn.h. A cluster is `sharing` row tiles x `split` slices of the hidden units; a block owns one
// tile of 64 * kGroups rows and one slice. One warpgroup for 64 rows; one warp more streams weights.
//
//   warpgroup  X = T(norm(x)) to shared memory; for each chunk of 64 hidden units:
//                h [64, 64]    = X W1c^T           both operands in shared memory
//                a             = T(act(h + b1))    in registers: accumulators packed are the next A operand
//                acc [64, 256] += a W2c^T
//              with the first product of the next chunk issued before the second of this one, so that the tensor cores
//              have work during the activation
//   producer   W1[0], W1[1], W2[0], W1[2], W2[1], ... through a ring of 32 KB stages; the first of them before the
//              previous kernel has ended, because weights do not depend on it
//   end        partial sums meet in shared memory; block j of a tile finishes rows j, j + split, ... and adds the
//              partials in the order of the slices
//
// Bounds for D = 256, F = 2048 (1.05 MFLOP a row and product, 2 MB of weights). Batch 64 (M = 7936): 16.6 GFLOP, 21 us
// at 790 TFLOP/s on all SMs, 22.4 on the 124 of a grid of 64 rows a SM. Reading the weights once a tile of 128 rows is
// 124 MB out of L2, as long as the arithmetic: hence `sharing`. Inside an SM a chunk costs 2048 clocks of tensor cores
// for 128 rows, and as many of shared memory (1024 first product, 512 second, 512 arriving weights), so 64-row tiles,
// for which the weights arrive twice as often, are bound by shared memory (1280 clocks for 1024). Batch 1: 128 KB of
// weights a block at 16 slices, all of which fit the ring and so arrive while the previous kernel ends. Chunks of 128
// units would read X half as often, but their accumulators leave no registers for the overlap. Registers: 128 + 32
// accumulators and 16 of the A operand. With two groups the producer is a whole warpgroup, which hands its registers to
// the consumers; with one, 160 threads can have 255 each as they are.
#pragma once

#include <type_traits>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fused_ffn_arguments.h"
#include "kernels/cuda/hopper.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Where a block stands in its cluster and in the matrix.
struct Place {
  int slice;      // of the hidden units
  int tile;       // within the cluster
  int first_row;  // of the tile
  int cluster_first_row;
};
__device__ __forceinline__ Place FindPlace(int split, int sharing, int tile_rows) {
  const int rank = static_cast<int>(ClusterRank());
  const int cluster = static_cast<int>(blockIdx.x) / (split * sharing);
  Place place;
  place.slice = rank % split;
  place.tile = rank / split;
  place.cluster_first_row = cluster * sharing * tile_rows;
  place.first_row = place.cluster_first_row + place.tile * tile_rows;
  return place;
}

// A stage of the ring and the parity of its use; producer and consumers walk alike.
struct Cursor {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void Next(int stages) {
    if (++slot == stages) slot = 0, parity ^= 1;
  }
};

struct Ring {
  uint64_t* full;
  uint64_t* empty;
  uint8_t* data;
  int stages;
  __device__ __forceinline__ uint8_t* Stage(int slot) const { return data + slot * kStageBytes; }
};

__device__ __forceinline__ void NamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- producer: one thread ------------------------------------------------------------------------------------------

class Producer {
 public:
  __device__ __forceinline__ Producer(const Arguments& arguments, const Ring& ring, const Place& place)
      : arguments_(arguments), ring_(ring), place_(place), items_(2 * arguments.chunks) {
    for (int i = 0; i < arguments.sharing; ++i) mask_ |= 1U << (place.slice + i * arguments.split);
  }
  // Items [next, end) of W1[0], W1[1], W2[0], W1[2], W2[1], ..., W2[last].
  __device__ __forceinline__ void LoadUntil(int end) {
    for (; next_ < end && next_ < items_; ++next_) {
      if (next_ >= ring_.stages) BarrierWait(&ring_.empty[cursor_.slot], cursor_.parity ^ 1);
      BarrierExpect(&ring_.full[cursor_.slot], kStageBytes);
      const bool second = next_ > 0 && (next_ % 2 == 0 || next_ + 1 == items_);
      const int chunk = !second ? (next_ + 1) / 2 : next_ + 1 == items_ ? arguments_.chunks - 1 : next_ / 2 - 1;
      const int unit = (place_.slice * arguments_.chunks + chunk) * kChunk;
      for (int box = place_.tile; box < kStageBoxes; box += arguments_.sharing) LoadBox(second, box, unit);
      cursor_.Next(ring_.stages);
    }
  }

 private:
  __device__ __forceinline__ void LoadBox(bool second, int box, int unit) {
    uint8_t* target = ring_.Stage(cursor_.slot) + box * kBoxBytes;
    uint64_t* full = &ring_.full[cursor_.slot];
    const CUtensorMap* map = second ? &arguments_.w2 : &arguments_.w1;
    const int x = second ? unit : box * 64;
    const int y = second ? box * 64 : unit;
    if (arguments_.sharing == 1) {
      TmaLoad2d(target, map, full, x, y);
    } else {
      TmaLoad2dMulticast(target, map, full, x, y, static_cast<uint16_t>(mask_));
    }
  }

  const Arguments& arguments_;
  const Ring& ring_;
  const Place& place_;
  const int items_;
  int next_ = 0;
  Cursor cursor_;
  uint32_t mask_ = 0;
};

// ---- rows: a warp a row --------------------------------------------------------------------------------------------

struct Row8 {  // a lane's eight values of a row
  float v[8];
};

__device__ __forceinline__ void Load4(const float* p, float* v) {
  const float4 a = *reinterpret_cast<const float4*>(p);
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
}

// LayerNorm in place; every lane holds eight of the row's values, gamma's and beta's.
__device__ __forceinline__ void NormRow(Row8& row, const Row8& gamma, const Row8& beta, float eps) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum += row.v[i];
  const float mean = WarpSum(sum) * (1.0F / kD);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) row.v[i] -= mean, squares += row.v[i] * row.v[i];
  const float scale = rsqrtf(WarpSum(squares) * (1.0F / kD) + eps);
#pragma unroll
  for (int i = 0; i < 8; ++i) row.v[i] = row.v[i] * scale * gamma.v[i] + beta.v[i];
}

template <typename T>
__device__ __forceinline__ uint32_t PackPair(float low, float high) {
  uint32_t packed;
  if constexpr (std::is_same_v<T, __half>) {  // saturates, as FromFloat
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  }
  return packed;
}

// 16 rows of a warp from x, normalised, into the group's swizzled tiles [4][64, 64]. A lane holds columns 8 * lane ....
template <typename T>
__device__ __forceinline__ void FillX(const Arguments& arguments, uint8_t* group_x, int group_first_row, int valid_rows,
                                      int warp, int lane, const Row8& gamma, const Row8& beta) {
  constexpr int kBatch = 8;  // rows in flight
#pragma unroll
  for (int batch = 0; batch < 16; batch += kBatch) {
    Row8 rows[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int row = group_first_row + warp * 16 + batch + i;
      if (row < valid_rows) {
        const float* x = arguments.x + static_cast<int64_t>(row) * kD + 8 * lane;
        Load4(x, rows[i].v), Load4(x + 4, rows[i].v + 4);
      } else {
#pragma unroll
        for (int k = 0; k < 8; ++k) rows[i].v[k] = 0;
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (arguments.norm_gamma != nullptr) NormRow(rows[i], gamma, beta, arguments.norm_eps);
      const float* v = rows[i].v;
      const uint4 packed = {PackPair<T>(v[0], v[1]), PackPair<T>(v[2], v[3]), PackPair<T>(v[4], v[5]),
                            PackPair<T>(v[6], v[7])};
      const int row = warp * 16 + batch + i;
      *reinterpret_cast<uint4*>(group_x + (lane / 8) * kBoxBytes + SwizzledByte(row, (lane % 8) * 8)) = packed;
    }
  }
}

// ---- products ------------------------------------------------------------------------------------------------------

// Swish with the two approximate instructions: their error (2 ulp each) is far below the rounding to T that follows.
template <Activation kActivation>
__device__ __forceinline__ float ActivateHidden(float v) {
  if constexpr (kActivation == Activation::kSwish) {
    float e, r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(v * -1.44269504F));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1.0F + e));
    return v * r;
  } else {
    return Activate<kActivation>(v);
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

template <Activation kActivation>
__device__ __forceinline__ void ActivateChunk(HiddenAccumulators& h, const float* bias) {
#pragma unroll
  for (int block = 0; block < 8; ++block) {  // of 8 columns
    const float2 b = *reinterpret_cast<const float2*>(bias + 8 * block);
    float* v = h + 4 * block;
    v[0] = ActivateHidden<kActivation>(v[0] + b.x), v[1] = ActivateHidden<kActivation>(v[1] + b.y);
    v[2] = ActivateHidden<kActivation>(v[2] + b.x), v[3] = ActivateHidden<kActivation>(v[3] + b.y);
  }
}
template <typename T>
__device__ __forceinline__ void PackChunk(const HiddenAccumulators& h, HiddenOperand& a) {
#pragma unroll
  for (int i = 0; i < 16; ++i) a[i / 4][i % 4] = PackPair<T>(h[2 * i], h[2 * i + 1]);
}

// The slice's share of acc = act(X W1^T + b1) W2^T for 64 rows.
template <typename T, Activation kActivation>
__device__ __forceinline__ void MultiplySlice(float (&acc)[128], const Arguments& arguments, const Ring& ring,
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
  for (int chunk = 1; chunk < arguments.chunks; ++chunk) {
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

// ---- end -----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ void StorePartial(const float (&acc)[128], float* partial, int warp, int lane) {
  float* upper = partial + (warp * 16 + lane / 4) * kPartialStride + 2 * (lane % 4);
#pragma unroll
  for (int block = 0; block < 32; ++block) {
    *reinterpret_cast<float2*>(upper + 8 * block) = make_float2(acc[4 * block], acc[4 * block + 1]);
    *reinterpret_cast<float2*>(upper + 8 * kPartialStride + 8 * block) =
        make_float2(acc[4 * block + 2], acc[4 * block + 3]);
  }
}

// A lane's columns at the end: 4 * lane ... and 128 + 4 * lane ....
__device__ __forceinline__ Row8 LoadColumns(const float* row, int lane, float otherwise) {
  Row8 result;
  if (row != nullptr) {
    Load4(row + 4 * lane, result.v), Load4(row + 128 + 4 * lane, result.v + 4);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) result.v[i] = otherwise;
  }
  return result;
}

// The rows of the tile that this block finishes: 16 / kSplit a warp, of which `kBatch` are in flight.
template <int kSplit>
__device__ __forceinline__ void FinishRows(const Arguments& arguments, const Place& place, const float* partial,
                                           int valid_rows, int warp, int warps, int lane) {
  constexpr int kBatch = kSplit >= 8 ? 1 : 8 / kSplit;
  const Row8 b2 = LoadColumns(arguments.b2, lane, 0);
  const Row8 gamma = LoadColumns(arguments.post_gamma, lane, 1);
  const Row8 beta = LoadColumns(arguments.post_beta, lane, 0);
#pragma unroll 1
  for (int first = 0; first < 16 / kSplit; first += kBatch) {
    float4 parts[kBatch][kSplit][2];
    Row8 x[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int row = ((first + i) * warps + warp) * kSplit + place.slice;
      const bool valid = place.first_row + row < valid_rows;
      const bool residual = valid && arguments.residual != 0;
      x[i] = LoadColumns(residual ? arguments.x + static_cast<int64_t>(place.first_row + row) * kD : nullptr, lane, 0);
#pragma unroll
      for (int part = 0; part < kSplit; ++part) {
        const uint32_t address = MapToBlock(partial + row * kPartialStride + 4 * lane, place.tile * kSplit + part);
        parts[i][part][0] = LoadRemote4(address);
        parts[i][part][1] = LoadRemote4(address + 128 * sizeof(float));
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int row = place.first_row + ((first + i) * warps + warp) * kSplit + place.slice;
      Row8 sum = {};
#pragma unroll
      for (int part = 0; part < kSplit; ++part) {
        const float4 p = parts[i][part][0], q = parts[i][part][1];
        const float v[8] = {p.x, p.y, p.z, p.w, q.x, q.y, q.z, q.w};
#pragma unroll
        for (int k = 0; k < 8; ++k) sum.v[k] = part == 0 ? v[k] : sum.v[k] + v[k];
      }
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        sum.v[k] += b2.v[k];
        if (arguments.residual != 0) sum.v[k] = x[i].v[k] + arguments.residual * sum.v[k];
      }
      if (arguments.post_gamma != nullptr) NormRow(sum, gamma, beta, arguments.post_eps);
      if (row >= valid_rows) continue;
      float* y = arguments.y + static_cast<int64_t>(row) * kD + 4 * lane;
      *reinterpret_cast<float4*>(y) = make_float4(sum.v[0], sum.v[1], sum.v[2], sum.v[3]);
      *reinterpret_cast<float4*>(y + 128) = make_float4(sum.v[4], sum.v[5], sum.v[6], sum.v[7]);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
