// src/kernels/cuda/fused_ffn_products.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Device side of fused_ffn.h. A cluster is `sharing` row tiles x `split` slices of the hidden units; a block owns one
// tile of rows and one slice. Two warpgroups multiply; one warpgroup more streams weights, the first of them before the
// previous kernel has ended, because weights do not depend on it.
//
//   start      X = T(norm(x)) to shared memory
//   128 rows   A warpgroup has 64 rows. For each chunk of 64 hidden units:
//                h [64, 64]    = X W1c^T           both operands in shared memory
//                a             = T(act(h + b1))    in registers: accumulators packed are the next A operand
//                acc [64, 256] += a W2c^T
//              with the first product of the next chunk issued before the second of this one, so that the tensor cores
//              have work during the activation; weights through a ring of 32 KB stages
//   64 rows    and two slices in one block (fused_ffn_paired.cu): as above, but that each warpgroup has a slice
//   narrow     Tiles of fewer rows (fused_ffn_split.cu, fused_ffn_unsplit.cu): both warpgroups have the same rows, and
//              products are transposed. Sums are made in the same order as above.
//   end        each block of a tile finishes some of its rows: it adds the others' sums of them in the order of the
//              slices, which it reads where they are or, of narrow tiles, has been sent. Of 128 rows and at most two
//              slices, each warp finishes its own rows (fused_ffn_warp_rows.cuh); of two slices, each block also
//              normalises half of X and sends it to the other
//
// Bounds of 128 rows for D = 256, F = 2048 (1.05 MFLOP a row and product, 2 MB of weights), in clocks of an SM. 64 rows
// and a chunk are 512 + 512 of tensor cores, 512 of special functions for swish (2 a hidden unit, 16 a clock), and of
// shared memory 512 + 256 (64 x 256 operands) and 512 (arriving weights; once for 128 rows). So 128 rows and a chunk
// take at least 2048, bound by tensor cores and shared memory alike; half of X as an operand in registers takes 256 off
// the latter. Batch 64 (M = 7936) on 124 SMs: 16 chunks of 128 rows, 32 800 clocks or 18 us, plus the ends; measured on
// an H100, 2270 clocks a chunk and 16 000 for the ends, of which 6800 go by until X is there and 9100 on sums. On an
// H200 a chunk takes 2060 clocks without its activation and 2070 without new weights. Tried without gain: turns of the
// warpgroups at the tensor cores, with 128 hidden units at a time (37 to 40 us instead of 35.4); products issued
// between parts of the activation (35.0 instead of 34.6); all of an activation before the second product's wait, behind
// which ptxas moves half of it; one copy of 32 KB a stage instead of four (and 8 % more for a chunk whose weights are
// shared); more rows of x in flight. Registers: 128 + 32 accumulators, 16 of the A operand and 32 of X, so that the
// producer is a whole warpgroup, which hands its registers to the others.
#pragma once

#include "kernels/cuda/fused_ffn_ring.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/wgmma.cuh"

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

__device__ __forceinline__ uint8_t* StageOf(const Ring& ring, int place) {
  return ring.data + place * StageBytes(Form::kWide);
}

// ---- producer: one thread ------------------------------------------------------------------------------------------

// A stage for W1 of 64 hidden units, [4][64 units, 64], or W2, [4][64 columns, 64]: W1[0], W1[1], W2[0], W1[2], W2[1],
// ..., W2[last].
class Producer {
 public:
  __device__ __forceinline__ Producer(const Arguments& arguments, const Ring& ring, const Place& place)
      : arguments_(arguments), ring_(ring), place_(place) {
    for (int i = 0; i < arguments.sharing; ++i) mask_ |= 1U << (place.slice + i * arguments.split);
  }
  __device__ __forceinline__ int Stages() const { return 2 * place_.chunks; }
  __device__ __forceinline__ void LoadUntil(int end) {
    for (; next_ < end && next_ < Stages(); ++next_) {
      if (next_ >= ring_.stages) BarrierWait(&ring_.empty[at_.place], at_.parity ^ 1);
      BarrierExpect(&ring_.full[at_.place], kStageBytes);
      for (int box = place_.tile; box < kStageBoxes; box += arguments_.sharing) Load(SourceOf(next_, box), box);
      at_.Forward(ring_.stages, 1);
    }
  }
  // All readers of the last stages have arrived, those of other blocks, too: now this block may end.
  __device__ __forceinline__ void AwaitReaders() {
    for (int i = min(ring_.stages, Stages()); i > 0; --i) {
      at_.Back(ring_.stages, 1);
      BarrierWait(&ring_.empty[at_.place], at_.parity);
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
      TmaPrefetch2d(source.second ? &arguments_.w2 : &arguments_.w1, source.x, source.y);
    }
  }

 private:
  static constexpr int kStageBoxes = StageBoxes(Form::kWide), kStageBytes = StageBytes(Form::kWide);
  struct Source {
    bool second;  // W2
    int x, y;
  };

  __device__ __forceinline__ Source SourceOf(int stage, int box) const {
    const bool second = stage > 0 && (stage % 2 == 0 || stage + 1 == Stages());
    const int index = !second ? (stage + 1) / 2 : stage + 1 == Stages() ? place_.chunks - 1 : stage / 2 - 1;
    const int unit = (place_.first_chunk + index) * kChunk;
    if (second) return {second, unit, box * 64};
    return {second, box * 64, unit};
  }
  __device__ __forceinline__ void Load(const Source& source, int box) {
    const CUtensorMap& map = source.second ? arguments_.w2 : arguments_.w1;
    uint8_t* target = StageOf(ring_, at_.place) + box * kBoxBytes;
    uint64_t* full = &ring_.full[at_.place];
    if (arguments_.sharing == 1) {
      TmaLoad2d(target, &map, full, source.x, source.y);
    } else {
      TmaLoad2dMulticast(target, &map, full, source.x, source.y, static_cast<uint16_t>(mask_));
    }
  }

  const Arguments& arguments_;
  const Ring& ring_;
  const Place& place_;
  int next_ = 0;
  RingPlace at_;
  uint32_t mask_ = 0;
};

// ---- products ------------------------------------------------------------------------------------------------------

// Approximate instructions for swish, whose error (2 ulp each) is far below the rounding to T that follows. exp2 is
// infinite and swish 0 for large negative v.
__device__ __forceinline__ float Swish(float v) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1.0F + Exp2(v * -1.44269504F)));
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

// The first steps of 64 rows of X as an operand in registers, as many as there are registers for: with both operands in
// shared memory a product of 64 x 64 takes all of its bandwidth, and weights must arrive, too.
inline constexpr int kHeldSteps = 8;
using HeldInput = uint32_t[kHeldSteps][4];

__device__ __forceinline__ void HoldInput(const uint8_t* group_x, int warp, int lane, HeldInput& held) {
  const int row = warp % 4 * 16 + lane % 16, column = lane / 16 * 8;  // whose address the lane gives
#pragma unroll
  for (int k = 0; k < kHeldSteps; ++k) {
    LoadMatrices(held[k], SharedAddress(group_x + k / 4 * kBoxBytes + SwizzledByte(row, k % 4 * 16 + column)));
  }
}
// Steps [kFirst, kLast) of the depth.
template <typename T, int kFirst = 0, int kLast = kD / 16>
__device__ __forceinline__ void IssueFirst(HiddenAccumulators& h, const HeldInput& held, uint64_t x, uint64_t w1) {
  WgmmaFence();
#pragma unroll
  for (int k = kFirst; k < kLast; ++k) {
    const int offset = (k / 4) * (kBoxBytes >> 4) + (k % 4) * 2;
    if (k < kHeldSteps) {
      Wgmma<T, 64>::RS(h, held[k], w1 + offset, k > 0);
    } else {
      Wgmma<T, 64>::SS(h, x + offset, w1 + offset, k > 0);
    }
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

// Blocks [kFirst, kLast) of 8 columns.
template <Activation kActivation, int kFirst = 0, int kLast = 8>
__device__ __forceinline__ void ActivateChunk(HiddenAccumulators& h, const float* bias) {
#pragma unroll
  for (int block = kFirst; block < kLast; ++block) {
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
  for (int i = 0; i < 16; ++i) a[i / 4][i % 4] = PackSaturated<T>(h[2 * i], h[2 * i + 1]);
}

// The warpgroups multiply in turn, so that one has the tensor cores while the other is at its activation. Both await
// and pass as many turns; the first one begins.
class Turns {
 public:
  __device__ __forceinline__ explicit Turns(int group) : group_(group) {
    if (group == 1) Pass(false);
  }
  __device__ __forceinline__ void Await() const { NamedBarrier(kFirst + group_, kConsumers); }
  // Nobody awaits what the second one passes at its end.
  __device__ __forceinline__ void Pass(bool last) const {
    if (group_ == 0 || !last) NamedBarrierArrive(kFirst + 1 - group_, kConsumers);
  }

 private:
  static constexpr int kFirst = 6;  // named barriers
  const int group_;
};

// The slice's share of acc = act(X W1^T + b1) W2^T for the 64 rows of a warpgroup; `after_first` is called when this
// warp needs X no more and only the last product is left. Returns where the last stage was.
template <typename T, Activation kActivation, typename AfterFirst>
__device__ __forceinline__ RingPlace MultiplyRows(float (&acc)[128], const Arguments& arguments, const Ring& ring,
                                                  const Place& place, const uint8_t* group_x, const float* bias,
                                                  int warp, int lane, const AfterFirst& after_first) {
  const uint64_t x = TileDescriptor(group_x);
  const float* lane_bias = bias + 2 * (lane % 4);
  RingPlace at;
  const auto wait = [&] { BarrierWait(&ring.full[at.place], at.parity); };
  const auto release = [&](int stage) {  // to every block that fills it
    if (lane < arguments.sharing) BarrierArriveRemote(&ring.empty[stage], place.slice + lane * arguments.split);
  };
  HeldInput held;
  HoldInput(group_x, warp, lane, held);
  HiddenAccumulators h;
  HiddenOperand a;
#pragma unroll
  for (int i = 0; i < 128; ++i) acc[i] = 0;

  const Turns turns(warp / 4);
  turns.Await();
  wait();
  IssueFirst<T>(h, held, x, TileDescriptor(StageOf(ring, at.place)));
  WgmmaWait<0>();
  WgmmaHold(h);
  turns.Pass(place.chunks == 1);
  release(at.place);
  at.Forward(ring.stages, 1);
  ActivateChunk<kActivation>(h, lane_bias);
  PackChunk<T>(h, a);
  for (int chunk = 1; chunk < place.chunks; ++chunk) {
    turns.Await();
    wait();
    IssueFirst<T>(h, held, x, TileDescriptor(StageOf(ring, at.place)));
    const int first_stage = at.place;
    at.Forward(ring.stages, 1);
    wait();
    IssueSecond<T>(acc, a, TileDescriptor(StageOf(ring, at.place)));
    WgmmaWait<1>();
    WgmmaHold(h);
    turns.Pass(chunk + 1 == place.chunks);
    release(first_stage);
    ActivateChunk<kActivation>(h, lane_bias + chunk * kChunk);
    WgmmaWait<0>();
    WgmmaHold(acc);
    release(at.place);
    at.Forward(ring.stages, 1);
    PackChunk<T>(h, a);  // not before: operands of a running product must not be written, or ptxas serialises all
  }
  wait();
  IssueSecond<T>(acc, a, TileDescriptor(StageOf(ring, at.place)));
  after_first();
  WgmmaWait<0>();
  WgmmaHold(acc);
  release(at.place);
  return at;
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
