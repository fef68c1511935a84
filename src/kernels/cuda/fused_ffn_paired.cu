// src/kernels/cuda/fused_ffn_paired.cu
// SPDX-License-Identifier: Apache-2.0
//
// The fused feed-forward kernel for tiles of 64 rows whose two slices are computed by one block, a warpgroup each: as
// many rows as there is room for on all multiprocessors at once, without sums that cross from one to another.
//   start  X = T(norm(x)) to shared memory
//   chunk  of 64 hidden units of either slice, as in tiles of 128 rows (fused_ffn_products.cuh). The warpgroups take
//          turns: one multiplies while the other is at its activation
//   end    each warp adds the two slices of 8 rows and finishes them
// Bounds of a chunk of both slices, in clocks: 2,048 of tensor cores; of shared memory 1,024 for weights to arrive,
// 1,024 to read them and 256 for half of X. Measured on an H100 (7,936 rows, 1,980 MHz): 3,000, without turns 3,400,
// without activations 2,700, without products 1,900.
#include "kernels/cuda/fused_ffn_alone.cuh"
#include "kernels/cuda/fused_ffn_warp_rows.cuh"

namespace ting::cuda::ffn {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Of every chunk, W1 [2][64 units, 64] of one half of the depth and of the other, and W2 [128 columns, 64 units] of one
// half of the columns and of the other.
struct PairedOrder {
  __device__ __forceinline__ static int Count(const Place& place) { return 4 * place.chunks; }
  __device__ __forceinline__ static WeightBox BoxOf(const Place& place, int, int i) {
    const InterleavedStage stage(i, place.chunks);
    const int chunk = place.first_chunk + stage.step;
    if (stage.second) return {true, stage.half * kHalfD, chunk};
    return {false, chunk * kChunk, stage.half * 2};
  }
};

// A slice's share of act(X W1^T + b1) W2^T for 64 rows, by one warpgroup.
template <typename T, Activation kActivation>
class SliceProducts {
 public:
  __device__ __forceinline__ SliceProducts(const Ring& ring, const uint8_t* x_tiles, const float* bias, int warp,
                                           int lane)
      : ring_(ring),
        x_(TileDescriptor(x_tiles)),
        bias_(bias + 2 * (lane % 4)),
        group_(warp / 4),
        lane_(lane),
        full_{warp / 4, 0},
        used_{warp / 4, 0} {
    HoldInput(x_tiles, warp, lane, held_);
  }

  __device__ __forceinline__ void Multiply(float (&acc)[128], int chunks) {
    HiddenAccumulators h;
    const Turns turns(group_);
    turns.Await();
    StartHidden(h);
    WgmmaWait<0>();
    WgmmaHold(h);
    turns.Pass(chunks == 1);
    Release();
    Release();
    ActivateChunk<kActivation>(h, bias_);
    PackChunk<T>(h, a_);
#pragma unroll 1
    for (int chunk = 1; chunk < chunks; ++chunk) {
      turns.Await();
      StartHidden(h);
      StartSums(acc, chunk > 1);
      WgmmaWait<3>();
      Release();
      WgmmaWait<2>();
      WgmmaHold(h);
      turns.Pass(chunk + 1 == chunks);
      Release();
      ActivateChunk<kActivation, 0, 4>(h, bias_ + chunk * kChunk);
      WgmmaWait<1>();
      Release();
      ActivateChunk<kActivation, 4, 8>(h, bias_ + chunk * kChunk);
      WgmmaWait<0>();
      WgmmaHold(acc);
      Release();
      PackChunk<T>(h, a_);  // not before: operands of a running product must not be written
    }
    StartSums(acc, chunks > 1);
    WgmmaWait<0>();
    WgmmaHold(acc);
  }

 private:
  __device__ __forceinline__ uint64_t NextStage() {
    BarrierWait(&ring_.full[full_.place], full_.parity);
    const uint64_t stage = TileDescriptor(ring_.data + full_.place * StageBytes(Form::kPaired));
    full_.Forward(ring_.stages, 2);
    return stage;
  }
  // The oldest stage in use has been read.
  __device__ __forceinline__ void Release() {
    if (lane_ == 0) BarrierArrive(&ring_.empty[used_.place]);
    used_.Forward(ring_.stages, 2);
  }
  __device__ __forceinline__ void StartHidden(HiddenAccumulators& h) {
    constexpr int kSteps = kD / 16, kHalfTiles = 2 * (kBoxBytes >> 4);
    IssueFirst<T, 0, kSteps / 2>(h, held_, x_, NextStage());
    IssueFirst<T, kSteps / 2, kSteps>(h, held_, x_, NextStage() - kHalfTiles);
  }
  __device__ __forceinline__ void StartSums(float (&acc)[128], bool accumulate) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float(&sums)[64] = reinterpret_cast<float(&)[64]>(acc[64 * half]);
      const uint64_t w2 = NextStage();
      WgmmaFence();
#pragma unroll
      for (int k = 0; k < kChunk / 16; ++k) Wgmma<T, 128>::RS(sums, a_[k], w2 + 2 * k, accumulate || k > 0);
      WgmmaCommit();
    }
  }

  const Ring& ring_;
  const uint64_t x_;
  const float* const bias_;
  const int group_, lane_;
  HeldInput held_;
  HiddenOperand a_;
  RingPlace full_, used_;  // stages to be waited for and to be released
};

// Of the 16 rows whose sums a warp of either warpgroup has, each finishes 8.
__device__ __forceinline__ void FinishPairedRows(const float (&acc)[128], const Arguments& arguments,
                                                 const float* vectors, float* room, int first_row, int valid_rows,
                                                 int warp, int lane) {
  constexpr int kRoom = kWarpRows * kD;
  const int group = warp / 4, partner = warp ^ 4;
  float *own = room + 2 * warp * kRoom, *sent = own + kRoom;
  const int row = first_row + warp % 4 * 2 * kWarpRows + group * kWarpRows;
  const WarpRows rows(arguments, vectors, row, valid_rows - row, lane);
  WarpRows::Batch x = {};
  rows.LoadInput(0, x);
  NamedBarrier(1, kConsumers);  // the other warpgroup may still read what sums overwrite
  StageRows(acc, 1 - group, sent, lane);
  StageRows(acc, group, own, lane);
  NamedBarrier(2 + warp % 4, 64);
  FinishStaged(rows, own, room + (2 * partner + 1) * kRoom, x);
}

template <typename T, Activation kActivation>
__device__ __forceinline__ void ConsumerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             uint8_t* shared, LoneBarriers* barriers, const float* vectors, int warp,
                                             int lane) {
  uint8_t* x_tiles = shared + kBarrierBytes;
  WaitForPreviousKernel();
  // More rows than there may be: their number arrives no sooner.
  InputRows<kGroupRows> input(arguments.x, place.first_row, arguments.rows, warp, lane);
  input.Start();
  const int rows = ValidRows(arguments);
  BarrierWait(&barriers->vectors, 0);
  if (place.first_row >= rows) return;
  input.template Store<T>(arguments, vectors, x_tiles);
  FenceAsyncProxy();
  NamedBarrier(1, kConsumers);
  float acc[128];
  SliceProducts<T, kActivation> products(ring, x_tiles, vectors + kB1 + place.first_chunk * kChunk, warp, lane);
  products.Multiply(acc, place.chunks);
  FinishPairedRows(acc, arguments, vectors, reinterpret_cast<float*>(x_tiles), place.first_row, rows, warp, lane);
}
#endif

// Two warpgroups of consumers, then the producers: two threads for weights, two warps for vectors.
template <typename T, Activation kActivation>
__global__ void __launch_bounds__(kThreads, 1) PairedKernel(const __grid_constant__ Arguments arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t shared[];
  LoneBarriers* barriers = reinterpret_cast<LoneBarriers*>(shared);
  float* vectors = reinterpret_cast<float*>(shared + arguments.layout.vectors);
  const Ring ring{barriers->full, barriers->empty, shared + arguments.layout.ring, arguments.stages};
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);  // uniform, for the compiler
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_row = static_cast<int>(blockIdx.x) * kGroupRows;
  const int slice = warp < kWarps ? warp / 4 : warp % 2;  // of a warpgroup, and of its producer
  const int first_unit = slice == 0 ? 0 : arguments.units / 2;
  const int last_unit = slice == 0 ? arguments.units / 2 : arguments.units;
  const Place place{slice, first_unit * 2, (last_unit - first_unit) * 2, 0, first_row, first_row};
  const Place both{0, 0, arguments.units * 2, 0, first_row, first_row};

  StartBlock(arguments, ring, both, &barriers->vectors, 0, vectors, warp, lane);
  if (warp >= kWarps) {
    RegistersDown<24>();
    ProduceAlone<PairedOrder>(arguments, ring, place, barriers, warp, lane);
  } else {
    RegistersUp<240>();
    ConsumerRole<T, kActivation>(arguments, ring, place, shared, barriers, vectors, warp, lane);
  }
#endif
}

template <typename T>
Kernel KernelFor(Activation activation) {
  if (activation == Activation::kSwish) return PairedKernel<T, Activation::kSwish>;
  if (activation == Activation::kRelu) return PairedKernel<T, Activation::kRelu>;
  return PairedKernel<T, Activation::kGelu>;
}

}  // namespace

Kernel FindPairedKernel(DType type, Activation activation) {
  return type == DType::kF16 ? KernelFor<__half>(activation) : KernelFor<__nv_bfloat16>(activation);
}

}  // namespace ting::cuda::ffn
