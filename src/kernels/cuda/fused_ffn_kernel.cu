// src/kernels/cuda/fused_ffn_kernel.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/fused_ffn_kernel.cuh"
#include "kernels/cuda/fused_ffn_sums.cuh"
#include "kernels/cuda/fused_ffn_transposed.cuh"

namespace ting::cuda::ffn {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Rows in this call; reads what the kernel before may have written.
__device__ __forceinline__ int ValidRows(const Arguments& arguments) {
  return arguments.num_rows == nullptr ? arguments.rows : min(*arguments.num_rows, arguments.rows);
}

template <int kTileRows>
__device__ __forceinline__ void ProducerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             bool leader) {
  Producer<kTileRows> producer(arguments, ring, place);
  if (leader) {
    producer.LoadUntil(arguments.stages);
    producer.PrefetchRest();
  }
  __syncwarp();
  WaitForPreviousKernel();
  if (place.cluster_first_row >= ValidRows(arguments)) {
    if (kTileRows == 32) ClusterWait();
    return;
  }
  if (leader) producer.LoadUntil(producer.Stages());
  __syncwarp();
  MeetCluster<kTileRows>();
  ClusterSync();
}

template <int kTileRows>
__device__ __forceinline__ void Finish(const Arguments& arguments, const Place& place, const Exchange& exchange,
                                       const float* vectors, int rows, int warp, int lane) {
  const int split = arguments.split;
  if (split == 1) {
    FinishRows<1, 1, kTileRows>(arguments, place, exchange, vectors, rows, warp, lane);
  } else if (split == 2) {
    FinishRows<2, 2, kTileRows>(arguments, place, exchange, vectors, rows, warp, lane);
  } else if (split <= 4) {
    FinishRows<3, 4, kTileRows>(arguments, place, exchange, vectors, rows, warp, lane);
  } else if (split <= 8) {
    FinishRows<5, 8, kTileRows>(arguments, place, exchange, vectors, rows, warp, lane);
  } else {
    FinishRows<9, 16, kTileRows>(arguments, place, exchange, vectors, rows, warp, lane);
  }
}

// The slice's share of 32 rows, which the other blocks of the tile have not all received when this returns.
template <typename T, Activation kActivation>
__device__ __forceinline__ void MultiplyAndSend(const Arguments& arguments, const Ring& ring, const Place& place,
                                                const Exchange& exchange, const uint8_t* x_tiles, uint8_t* hidden,
                                                const float* bias, int rows, int warp, int lane) {
  const int group = warp / 4, column = group * 64 + warp % 4 * 16, tile_rows = rows - place.first_row;
  NamedBarrier(1, kConsumers);
  float first[16], second[16];
  MultiplyTransposed<T, kActivation>(first, second, ring, place, x_tiles, hidden, bias, group, warp, lane);
  WgmmaWait<1>();
  WgmmaHold(first);
  StorePartialTransposed(first, exchange.partial, column, lane);
  MeetCluster<32>();
  PushHalf(arguments, place, exchange, 0, tile_rows, warp, lane);
  WgmmaWait<0>();
  WgmmaHold(second);
  StorePartialTransposed(second, exchange.second_half, column, lane);
  PushHalf(arguments, place, exchange, 1, tile_rows, warp, lane);
}

// The slice's share of 64 or 128 rows, into `partial`. Before sums are stored, a barrier: the other warpgroup may still
// read what they overwrite.
template <typename T, Activation kActivation, int kTileRows>
__device__ __forceinline__ void Multiply(const Arguments& arguments, const Ring& ring, const Place& place,
                                         const uint8_t* x_tiles, uint8_t* hidden, const float* bias, float* partial,
                                         int warp, int lane) {
  const int group = warp / 4;
  if constexpr (kTileRows == 64) {
    NamedBarrier(1, kConsumers);
    float acc[64];
    MultiplyColumns<T, kActivation>(acc, arguments, ring, place, x_tiles, hidden, bias, group, warp, lane);
    NamedBarrier(1, kConsumers);
    StorePartial(acc, partial, warp % 4 * 16, group * 128, lane);
  } else {
    NamedBarrier(2 + group, 128);
    float acc[128];
    MultiplyRows<T, kActivation>(acc, arguments, ring, place, x_tiles + group * kStageBytes, bias, lane);
    NamedBarrier(1, kConsumers);
    StorePartial(acc, partial, warp * 16, 0, lane);
  }
}

template <typename T, Activation kActivation, int kTileRows>
__device__ __forceinline__ void ConsumerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             uint8_t* shared, const SharedLayout& layout, uint64_t* received, int warp,
                                             int lane) {
  uint8_t* x_tiles = shared + kBarrierBytes;
  float* vectors = reinterpret_cast<float*>(shared + layout.vectors);
  StartVectors(arguments, place, vectors);
  WaitForPreviousKernel();
  // More rows than there may be: their number arrives no sooner.
  InputRows<kTileRows> input(arguments.x, place.first_row, arguments.rows, warp, lane);
  const int rows = ValidRows(arguments);
  CopiesAsyncWait();
  if (place.cluster_first_row >= rows) {
    // The whole cluster leaves; but not while weights are still arriving.
    for (int i = 0; i < min(ring.stages, 2 * place.chunks); ++i) BarrierWait(&ring.full[i], 0);
    if (kTileRows == 32) ClusterWait();
    return;
  }
  NamedBarrier(1, kConsumers);  // the vectors
  input.template Store<T>(arguments, vectors, x_tiles);
  FenceAsyncProxy();
  const Exchange exchange{reinterpret_cast<float*>(x_tiles), reinterpret_cast<float*>(shared + layout.second_half),
                          reinterpret_cast<float*>(shared + layout.received), received};
  uint8_t* hidden = shared + layout.hidden;
  const float* b1 = vectors + kB1;
  if constexpr (kTileRows == 32) {
    MultiplyAndSend<T, kActivation>(arguments, ring, place, exchange, x_tiles, hidden, b1, rows, warp, lane);
  } else {
    Multiply<T, kActivation, kTileRows>(arguments, ring, place, x_tiles, hidden, b1, exchange.partial, warp, lane);
  }
  Finish<kTileRows>(arguments, place, exchange, vectors, rows, warp, lane);
}
#endif

// Two warpgroups of consumers, then the producer, of which one thread works.
template <typename T, Activation kActivation, int kTileRows>
__global__ void __launch_bounds__(kThreads, 1) FusedFfnKernel(const __grid_constant__ Arguments arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kReaders = kTileRows == 128 ? 8 : 4;  // warps of a stage
  extern __shared__ __align__(1024) uint8_t shared[];
  const SharedLayout layout = LayoutOf(kTileRows, arguments.stages, 0, arguments.split);
  uint64_t* barriers = reinterpret_cast<uint64_t*>(shared);
  uint64_t* received = barriers + 2 * kMaxStages;
  const Ring ring{barriers, barriers + kMaxStages, shared + layout.ring, arguments.stages};
  const Place place = FindPlace(arguments, kTileRows);
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);  // uniform, for the compiler

  if (threadIdx.x == kConsumers) {
    TmaPrefetchMap(&arguments.w1);
    TmaPrefetchMap(&arguments.w2);
    for (int i = 0; i < ring.stages; ++i) {
      BarrierInit(&ring.full[i], 1);
      BarrierInit(&ring.empty[i], kReaders * arguments.sharing);
    }
    BarrierInit(received, 1);
    BarrierInitFence();
  }
  if (kTileRows != 32 && arguments.sharing > 1) {
    ClusterSync();  // the barriers of other blocks are used before the end, too
  } else {
    __syncthreads();
    if (kTileRows == 32) ClusterArrive();  // waits before the first sums are sent
  }
  if (warp >= kConsumers / 32) {
    RegistersDown<kTileRows == 128 ? 24 : 40>();
    ProducerRole<kTileRows>(arguments, ring, place, threadIdx.x == kConsumers);
  } else {
    RegistersUp<kTileRows == 128 ? 240 : 232>();
    ConsumerRole<T, kActivation, kTileRows>(arguments, ring, place, shared, layout, received, warp, threadIdx.x % 32);
  }
#endif
}

template <typename T, Activation kActivation>
Kernel KernelFor(int tile_rows) {
  if (tile_rows == 32) return FusedFfnKernel<T, kActivation, 32>;
  return tile_rows == 64 ? FusedFfnKernel<T, kActivation, 64> : FusedFfnKernel<T, kActivation, 128>;
}
template <typename T>
Kernel KernelFor(Activation activation, int tile_rows) {
  if (activation == Activation::kSwish) return KernelFor<T, Activation::kSwish>(tile_rows);
  if (activation == Activation::kRelu) return KernelFor<T, Activation::kRelu>(tile_rows);
  return KernelFor<T, Activation::kGelu>(tile_rows);
}

}  // namespace

Kernel FindKernel(FfnType type, Activation activation, int tile_rows) {
  return type == FfnType::kF16 ? KernelFor<__half>(activation, tile_rows)
                               : KernelFor<__nv_bfloat16>(activation, tile_rows);
}

}  // namespace ting::cuda::ffn
