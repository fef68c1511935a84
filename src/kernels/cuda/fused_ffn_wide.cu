// src/kernels/cuda/fused_ffn_wide.cu
// SPDX-License-Identifier: Apache-2.0
//
// The fused feed-forward kernel for tiles of 128 rows (fused_ffn_products.cuh).
#include "kernels/cuda/fused_ffn_products.cuh"
#include "kernels/cuda/fused_ffn_sums.cuh"
#include "kernels/cuda/fused_ffn_warp_rows.cuh"

namespace ting::cuda::ffn {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kTileRows = 128;

// Whether the warps of a tile finish their own rows (fused_ffn_warp_rows.cuh), or the block all of them. They find room
// in the last four stages.
__device__ __forceinline__ bool WarpsFinish(const Arguments& arguments) {
  return arguments.split <= 2 && arguments.stages >= 4 &&
         arguments.units / arguments.split * arguments.unit_chunks >= 2;
}
// Then two blocks of a tile normalise one half of X each, and send it to the other.
__device__ __forceinline__ bool SharesInput(const Arguments& arguments) {
  return WarpsFinish(arguments) && arguments.split == 2;
}

__device__ __forceinline__ void ProducerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             bool leader) {
  Producer producer(arguments, ring, place);
  if (leader) {
    producer.LoadUntil(arguments.stages);
    producer.PrefetchRest();
  }
  __syncwarp();
  WaitForPreviousKernel();
  if (place.cluster_first_row >= ValidRows(arguments)) {
    if (SharesInput(arguments)) ClusterWait();
    return;
  }
  if (leader) producer.LoadUntil(producer.Stages());
  __syncwarp();
  if (WarpsFinish(arguments)) {
    if (SharesInput(arguments)) ClusterWait();
    if (leader) producer.AwaitReaders();
    __syncwarp();
    if (SharesInput(arguments)) ClusterSync();
    return;
  }
  ClusterSync();
  ClusterSync();
}

__device__ __forceinline__ void Finish(const Arguments& arguments, const Place& place, float* partial,
                                       const float* vectors, int rows, int warp, int lane) {
  const int split = arguments.split;
  if (split == 1) {
    FinishRows<1, 1>(arguments, place, partial, vectors, rows, warp, lane);
  } else if (split == 2) {
    FinishRows<2, 2>(arguments, place, partial, vectors, rows, warp, lane);
  } else if (split <= 4) {
    FinishRows<3, 4>(arguments, place, partial, vectors, rows, warp, lane);
  } else if (split <= 8) {
    FinishRows<5, 8>(arguments, place, partial, vectors, rows, warp, lane);
  } else {
    FinishRows<9, 16>(arguments, place, partial, vectors, rows, warp, lane);
  }
}

// The 8 rows of X that a warp has normalised, of each of its four tiles, to the other block of the tile.
__device__ __forceinline__ void SendInput(uint8_t* x_tiles, uint64_t* barrier, int slice, int warp, int lane) {
  FenceAsyncProxy();
  __syncwarp();
  if (lane < StageBoxes(Form::kWide)) {
    const uint8_t* rows = x_tiles + slice * StageBytes(Form::kWide) + lane * kBoxBytes + warp * 8 * kSwizzleRowBytes;
    const uint32_t block = ClusterRank() ^ 1;
    PushToBlock(MapToBlock(rows, block), rows, 8 * kSwizzleRowBytes, MapToBlock(barrier, block));
  }
  __syncwarp();
}

// X of this block, or of both blocks that share it, is there for the warpgroup.
__device__ __forceinline__ void MeetInput(const Arguments& arguments, const Place& place, uint8_t* x_tiles,
                                          uint64_t* received, int warp, int lane) {
  if (!SharesInput(arguments)) {
    NamedBarrier(2 + warp / 4, 128);
    return;
  }
  ClusterWait();
  SendInput(x_tiles, received, place.slice, warp, lane);
  NamedBarrier(1, kConsumers);
  if (warp / 4 != place.slice) BarrierWait(received, 0);
}

// Each warpgroup multiplies 64 of the 128 rows.
template <typename T, Activation kActivation>
__device__ __forceinline__ void MultiplyAndFinish(const Arguments& arguments, const Ring& ring, const Place& place,
                                                  uint8_t* x_tiles, uint64_t* warp_barriers, const float* vectors,
                                                  int rows, int warp, int lane) {
  const int group = warp / 4;
  const auto after_first = [&] {
    if (!SharesInput(arguments)) return;
    NamedBarrier(2 + group, 128);  // X of the warpgroup may be overwritten
    if (lane == 0) {
      BarrierExpect(warp_barriers + kWarps + warp, kWarpRowsBytes);
      BarrierArriveRemote(warp_barriers + warp, ClusterRank() ^ 1);
    }
    __syncwarp();
  };
  float acc[128];
  const uint8_t* group_x = x_tiles + group * StageBytes(Form::kWide);
  const RingPlace last = MultiplyRows<T, kActivation>(acc, arguments, ring, place, group_x, vectors + kB1, warp, lane,
                                                      after_first);
  if (WarpsFinish(arguments)) {
    if (arguments.split == 1) NamedBarrier(2 + group, 128);
    const WarpExchange own = FindWarpExchange(arguments, ring, x_tiles, warp_barriers, last, warp);
    FinishWarpRows(acc, arguments, place, own, vectors, place.first_row + warp * 2 * kWarpRows, rows, lane);
    return;
  }
  NamedBarrier(1, kConsumers);  // the other warpgroup may still read what sums overwrite
  float* partial = reinterpret_cast<float*>(x_tiles);
  StorePartial(acc, partial, warp * 16, lane);
  Finish(arguments, place, partial, vectors, rows, warp, lane);
}

template <typename T, Activation kActivation>
__device__ __forceinline__ void ConsumerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             uint8_t* shared, uint64_t* warp_barriers, int warp, int lane) {
  uint8_t* x_tiles = shared + kBarrierBytes;
  float* vectors = reinterpret_cast<float*>(shared + arguments.layout.vectors);
  StartVectors(arguments, place, vectors, threadIdx.x, kConsumers);
  const bool shares_input = SharesInput(arguments);
  // More rows than there may be: their number arrives no sooner.
  InputRows<kTileRows> input(arguments.x, place.first_row, arguments.rows, warp, lane, shares_input ? 2 : 1,
                             shares_input ? place.slice : 0);
  WaitForPreviousKernel();
  input.Start();
  const int rows = ValidRows(arguments);
  WaitForAllCopies();
  if (place.cluster_first_row >= rows) {
    // The whole cluster leaves; but not while weights are still arriving.
    for (int i = 0; i < min(ring.stages, 2 * place.chunks); ++i) BarrierWait(&ring.full[i], 0);
    if (shares_input) ClusterWait();
    return;
  }
  NamedBarrier(1, kConsumers);  // the vectors
  input.template Store<T>(arguments, vectors, x_tiles);
  FenceAsyncProxy();
  MeetInput(arguments, place, x_tiles, warp_barriers + 2 * kWarps, warp, lane);
  MultiplyAndFinish<T, kActivation>(arguments, ring, place, x_tiles, warp_barriers, vectors, rows, warp, lane);
}
#endif

// Two warpgroups of consumers, then the producer, of which one thread works.
template <typename T, Activation kActivation>
__global__ void __launch_bounds__(kThreads, 1) WideKernel(const __grid_constant__ Arguments arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kReaders = 8;  // warps of a stage
  extern __shared__ __align__(1024) uint8_t shared[];
  uint64_t* barriers = reinterpret_cast<uint64_t*>(shared);
  uint64_t* warp_barriers = barriers + 2 * kMaxStages;
  const Ring ring{barriers, barriers + kMaxStages, shared + arguments.layout.ring, arguments.stages};
  const Place place = FindPlace(arguments, kTileRows);
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);  // uniform, for the compiler

  StartCluster();
  if (threadIdx.x == kConsumers) {
    TmaPrefetchMap(&arguments.w1);
    TmaPrefetchMap(&arguments.w2);
    for (int i = 0; i < ring.stages; ++i) {
      BarrierInit(&ring.full[i], 1);
      BarrierInit(&ring.empty[i], kReaders * arguments.sharing);
    }
    for (int i = 0; i <= 2 * kWarps; ++i) BarrierInit(warp_barriers + i, 1);
    BarrierExpect(warp_barriers + 2 * kWarps, StageBytes(Form::kWide));  // the other half of X
    BarrierInitFence();
  }
  if (arguments.sharing > 1) {
    ClusterSync();  // the barriers of other blocks are used before the end, too
  } else {
    __syncthreads();
  }
  // Waits before anything is sent; a block alone would not get past it without its producer.
  if (SharesInput(arguments)) ClusterArrive();
  if (warp >= kWarps) {
    RegistersDown<24>();
    ProducerRole(arguments, ring, place, threadIdx.x == kConsumers);
  } else {
    RegistersUp<240>();
    ConsumerRole<T, kActivation>(arguments, ring, place, shared, warp_barriers, warp, threadIdx.x % 32);
  }
  EndCluster();
#endif
}

template <typename T>
Kernel KernelFor(Activation activation) {
  if (activation == Activation::kSwish) return WideKernel<T, Activation::kSwish>;
  if (activation == Activation::kRelu) return WideKernel<T, Activation::kRelu>;
  return WideKernel<T, Activation::kGelu>;
}

}  // namespace

Kernel FindWideKernel(DType type, Activation activation) {
  return type == DType::kF16 ? KernelFor<__half>(activation) : KernelFor<__nv_bfloat16>(activation);
}

Kernel FindKernel(DType type, Activation activation, int tile_rows, int split) {
  switch (FormOf(tile_rows, split)) {
    case Form::kWide:
      return FindWideKernel(type, activation);
    case Form::kPaired:
      return FindPairedKernel(type, activation);
    case Form::kSplit:
      return FindSplitKernel(type, activation, tile_rows);
    default:
      return FindUnsplitKernel(type, activation);
  }
}

}  // namespace ting::cuda::ffn
