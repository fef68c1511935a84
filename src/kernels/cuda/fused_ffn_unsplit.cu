// src/kernels/cuda/fused_ffn_unsplit.cu
// SPDX-License-Identifier: Apache-2.0
//
// The fused feed-forward kernel for tiles of less than 128 rows that are not split: many rows, of which tiles of 128
// would leave multiprocessors without work. A block owns its rows and needs no other.
//   start      X = T(norm(x)) to shared memory
//   each unit  of 128 hidden units: a = T(act(X W1^T + b1)) to shared memory, sums += a W2^T; the first product of a
//              unit is started before the second of the one before, so that the tensor cores have work during the
//              activation
//   end        sums to shared memory, from which each warp finishes some rows
// Bound by shared memory: of a unit, 64 products of 64 x kRows x 16 read 2 KB of weights and 32 bytes a row each, and
// weights arrive by 128 KB; with 80 rows 3,500 clocks, where the tensor cores need 2,560. Measured on an H100: 3,700
// with relu, 4,400 with swish, whose activation takes longer than the products behind it.
#include "kernels/cuda/fused_ffn_alone.cuh"
#include "kernels/cuda/fused_ffn_sums.cuh"
#include "kernels/cuda/fused_ffn_transposed.cuh"

namespace ting::cuda::ffn {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct UnsplitOrder {
  __device__ __forceinline__ static int Count(const Place& place) { return 2 * place.chunks; }
  __device__ __forceinline__ static WeightBox BoxOf(const Place& place, int group, int i) {
    const InterleavedStage stage(i, place.chunks / 2);
    return TransposedBox(place, group, stage.second, stage.step, stage.half);
  }
};

// The sums of all columns: those of a warpgroup are 64 of each half.
template <typename T, Activation kActivation, int kRows>
class UnsplitProducts : private TransposedSteps<T, kActivation, kRows> {
  using Steps = TransposedSteps<T, kActivation, kRows>;
  using Steps::Release, Steps::StartColumns, Steps::StartUnit;

 public:
  using typename Steps::Sums;

  // `hidden` is room for two units.
  __device__ __forceinline__ UnsplitProducts(const Ring& ring, int units, const uint8_t* x_tiles, uint8_t* hidden,
                                             const float* bias, int warp, int lane)
      : Steps(ring, x_tiles, bias, warp, lane), units_(units), hidden_(hidden) {}

  __device__ __forceinline__ void Multiply(Sums (&sums)[2]) {
    Sums h;
    StartUnit(h);
    WgmmaWait<0>();
    WgmmaHold(h);
    Release();
    Release();
    Store<0, kEights>(h, 0);
#pragma unroll 1
    for (int unit = 0; unit + 1 < units_; ++unit) {
      StartUnit(h);
      EndUnit(unit - 1);
      MeetUnit();
      StartColumns(sums[0], Hidden(unit), unit > 0);
      WgmmaWait<1>();
      WgmmaHold(h);
      Release();
      Release();
      StartColumns(sums[1], Hidden(unit), unit > 0);
      Store<0, kFirstEights>(h, unit + 1);
      WgmmaWait<1>();
      Release();
      Store<kFirstEights, kEights>(h, unit + 1);
    }
    WgmmaWait<0>();
    if (units_ > 1) Release();
    MeetUnit();
    StartColumns(sums[0], Hidden(units_ - 1), units_ > 1);
    StartColumns(sums[1], Hidden(units_ - 1), units_ > 1);
    WgmmaWait<0>();
    WgmmaHold(sums[0]);
    WgmmaHold(sums[1]);
  }

 private:
  static constexpr int kEights = kRows / 8;
  static constexpr int kFirstEights = kEights / 4 * 2;

  __device__ __forceinline__ uint8_t* Hidden(int unit) const { return hidden_ + unit % 2 * Steps::kUnitBytes; }
  template <int kFirst, int kLast>
  __device__ __forceinline__ void Store(Sums& h, int unit) const {
    this->template StoreUnit<kFirst, kLast>(h, unit, Hidden(unit));
  }
  // The second half of the columns of a unit, while the hidden units of the one after the next are multiplied.
  __device__ __forceinline__ void EndUnit(int unit) {
    WgmmaWait<2>();
    if (unit >= 0) Release();
  }
  // Both warpgroups have stored their halves of a unit, and have multiplied the unit whose place the next one takes.
  __device__ __forceinline__ void MeetUnit() {
    FenceAsyncProxy();
    NamedBarrier(1, kConsumers);
  }

  const int units_;
  uint8_t* const hidden_;
};

// The end of a tile: rows of sums in shared memory, in which column c of row r lies at c ^ HalfSwizzle(r).
template <int kRows>
class UnsplitEnd {
 public:
  __device__ __forceinline__ UnsplitEnd(const Arguments& arguments, const Place& place, float* sums, int tile_rows,
                                        int warp, int lane)
      : arguments_(arguments), place_(place), sums_(sums), tile_rows_(tile_rows), warp_(warp), lane_(lane) {}

  // A thread's sums, of 64 columns of each half by kRows rows of its warpgroup; all have read what lay there.
  __device__ __forceinline__ void Keep(const float (&sums)[2][kRows / 2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = half * kHalfD + warp_ * 16 + lane_ / 4;
#pragma unroll
      for (int i = 0; i < kRows / 2; ++i) {
        const int row = 8 * (i / 4) + 2 * (lane_ % 4) + i % 2;
        sums_[row * kD + ((column + 8 * (i / 2 % 2)) ^ HalfSwizzle(row))] = sums[half][i];
      }
    }
    NamedBarrier(1, kConsumers);
  }
  // Rows of y, of which each warp has two at once.
  __device__ __forceinline__ void Finish(const float* vectors) const {
    Batch x = {}, next = {};
    LoadInput(0, x);
#pragma unroll 1
    for (int first = 0; first < kWarpRows; first += kBatch) {
      if (first + kBatch < kWarpRows) LoadInput(first + kBatch, next);
      Batch y;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) y[i] = SumsOf(first + i);
      AddResidual(arguments_, LoadRow(vectors + kB2, lane_), x, y);
      if (arguments_.post_gamma != nullptr) {
        NormRows(y, vectors + kPostGamma, vectors + kPostBeta, arguments_.post_eps, lane_);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (IsValid(first + i)) StoreRow(arguments_.y + GlobalOffset(first + i), y[i], lane_);
        x[i] = next[i];
      }
    }
  }

 private:
  static constexpr int kWarpRows = kRows / kWarps;
  static constexpr int kBatch = 2;
  using Batch = Row8[kBatch];
  static_assert(kWarpRows % kBatch == 0);

  __device__ __forceinline__ int RowOf(int i) const { return warp_ * kWarpRows + i; }
  __device__ __forceinline__ bool IsValid(int i) const { return RowOf(i) < tile_rows_; }
  __device__ __forceinline__ int64_t GlobalOffset(int i) const {
    return static_cast<int64_t>(place_.first_row + RowOf(i)) * kD;
  }
  __device__ __forceinline__ Row8 SumsOf(int i) const {
    const int row = RowOf(i);
    const float* sums = sums_ + row * kD + (4 * lane_ ^ HalfSwizzle(row));
    return MakeRow(Load4(sums), Load4(sums + kHalfD));
  }
  // For the residual.
  __device__ __forceinline__ void LoadInput(int first, Batch& x) const {
    if (arguments_.residual == 0) return;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (IsValid(first + i)) x[i] = LoadRow(arguments_.x + GlobalOffset(first + i), lane_);
    }
  }

  const Arguments& arguments_;
  const Place& place_;
  float* const sums_;
  const int tile_rows_, warp_, lane_;
};

template <typename T, Activation kActivation, int kRows>
__device__ __forceinline__ void ConsumerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             uint8_t* shared, LoneBarriers* barriers, const float* vectors, int warp,
                                             int lane) {
  uint8_t* x_tiles = shared + kBarrierBytes;
  WaitForPreviousKernel();
  // More rows than there may be: their number arrives no sooner.
  InputRows<kRows> input(arguments.x, place.first_row, arguments.rows, warp, lane);
  input.Start();
  const int rows = ValidRows(arguments);
  BarrierWait(&barriers->vectors, 0);
  if (place.first_row >= rows) return;
  input.template Store<T>(arguments, vectors, x_tiles);
  FenceAsyncProxy();
  NamedBarrier(1, kConsumers);
  using Products = UnsplitProducts<T, kActivation, kRows>;
  typename Products::Sums sums[2];
  Products products(ring, place.chunks / 2, x_tiles, shared + arguments.layout.hidden, vectors + kB1, warp, lane);
  products.Multiply(sums);
  NamedBarrier(1, kConsumers);
  const UnsplitEnd<kRows> end(arguments, place, reinterpret_cast<float*>(x_tiles), min(kRows, rows - place.first_row),
                              warp, lane);
  end.Keep(sums);
  end.Finish(vectors);
}
#endif

// Two warpgroups of consumers, then the producers: two threads for weights, two warps for vectors.
template <typename T, Activation kActivation, int kRows>
__global__ void __launch_bounds__(kThreads, 1) UnsplitKernel(const __grid_constant__ Arguments arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t shared[];
  LoneBarriers* barriers = reinterpret_cast<LoneBarriers*>(shared);
  float* vectors = reinterpret_cast<float*>(shared + arguments.layout.vectors);
  const Ring ring{barriers->full, barriers->empty, shared + arguments.layout.ring, arguments.stages};
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const Place place{0, 0, arguments.units * 2, 0, first_row, first_row};
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);  // uniform, for the compiler
  const int lane = static_cast<int>(threadIdx.x) % 32;

  StartBlock(arguments, ring, place, &barriers->vectors, 0, vectors, warp, lane);
  if (warp >= kWarps) {
    ProduceAlone<UnsplitOrder>(arguments, ring, place, barriers, warp, lane);
  } else {
    ConsumerRole<T, kActivation, kRows>(arguments, ring, place, shared, barriers, vectors, warp, lane);
  }
#endif
}

template <typename T>
Kernel KernelFor(Activation activation) {
  if (activation == Activation::kSwish) return UnsplitKernel<T, Activation::kSwish, kUnsplitRows>;
  if (activation == Activation::kRelu) return UnsplitKernel<T, Activation::kRelu, kUnsplitRows>;
  return UnsplitKernel<T, Activation::kGelu, kUnsplitRows>;
}

}  // namespace

Kernel FindUnsplitKernel(DType type, Activation activation) {
  return type == DType::kF16 ? KernelFor<__half>(activation) : KernelFor<__nv_bfloat16>(activation);
}

}  // namespace ting::cuda::ffn
