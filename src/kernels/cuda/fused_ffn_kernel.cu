// src/kernels/cuda/fused_ffn_kernel.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/fused_ffn_kernel.cuh"
#include "kernels/cuda/fused_ffn_sums.cuh"

namespace ting::cuda::ffn {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kTileRows = 128;

__device__ __forceinline__ void ProducerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             bool leader) {
  Producer producer(arguments, ring, place);
  if (leader) {
    producer.LoadUntil(arguments.stages);
    producer.PrefetchRest();
  }
  __syncwarp();
  WaitForPreviousKernel();
  if (place.cluster_first_row >= ValidRows(arguments)) return;
  if (leader) producer.LoadUntil(producer.Stages());
  __syncwarp();
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

template <typename T, Activation kActivation>
__device__ __forceinline__ void ConsumerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             uint8_t* shared, int warp, int lane) {
  uint8_t* x_tiles = shared + kBarrierBytes;
  float* vectors = reinterpret_cast<float*>(shared + arguments.layout.vectors);
  StartVectors(arguments, place, vectors, threadIdx.x, kConsumers);
  WaitForPreviousKernel();
  // More rows than there may be: their number arrives no sooner.
  InputRows<kTileRows> input(arguments.x, place.first_row, arguments.rows, warp, lane);
  const int rows = ValidRows(arguments);
  CopiesAsyncWait();
  if (place.cluster_first_row >= rows) {
    // The whole cluster leaves; but not while weights are still arriving.
    for (int i = 0; i < min(ring.stages, 2 * place.chunks); ++i) BarrierWait(&ring.full[i], 0);
    return;
  }
  NamedBarrier(1, kConsumers);  // the vectors
  input.template Store<T>(arguments, vectors, x_tiles);
  FenceAsyncProxy();
  const int group = warp / 4;
  NamedBarrier(2 + group, 128);
  float acc[128];
  MultiplyRows<T, kActivation>(acc, arguments, ring, place, x_tiles + group * StageBytes(kTileRows), vectors + kB1,
                               lane);
  NamedBarrier(1, kConsumers);  // the other warpgroup may still read what sums overwrite
  float* partial = reinterpret_cast<float*>(x_tiles);
  StorePartial(acc, partial, warp * 16, lane);
  Finish(arguments, place, partial, vectors, rows, warp, lane);
}
#endif

// Two warpgroups of consumers, then the producer, of which one thread works.
template <typename T, Activation kActivation>
__global__ void __launch_bounds__(kThreads, 1) FusedFfnKernel(const __grid_constant__ Arguments arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kReaders = 8;  // warps of a stage
  extern __shared__ __align__(1024) uint8_t shared[];
  uint64_t* barriers = reinterpret_cast<uint64_t*>(shared);
  const Ring ring{barriers, barriers + kMaxStages, shared + arguments.layout.ring, arguments.stages};
  const Place place = FindPlace(arguments, kTileRows);
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);  // uniform, for the compiler

  if (threadIdx.x == kConsumers) {
    TmaPrefetchMap(&arguments.w1);
    TmaPrefetchMap(&arguments.w2);
    for (int i = 0; i < ring.stages; ++i) {
      BarrierInit(&ring.full[i], 1);
      BarrierInit(&ring.empty[i], kReaders * arguments.sharing);
    }
    BarrierInitFence();
  }
  if (arguments.sharing > 1) {
    ClusterSync();  // the barriers of other blocks are used before the end, too
  } else {
    __syncthreads();
  }
  if (warp >= kWarps) {
    RegistersDown<24>();
    ProducerRole(arguments, ring, place, threadIdx.x == kConsumers);
  } else {
    RegistersUp<240>();
    ConsumerRole<T, kActivation>(arguments, ring, place, shared, warp, threadIdx.x % 32);
  }
#endif
}

template <typename T>
Kernel KernelFor(Activation activation) {
  if (activation == Activation::kSwish) return FusedFfnKernel<T, Activation::kSwish>;
  if (activation == Activation::kRelu) return FusedFfnKernel<T, Activation::kRelu>;
  return FusedFfnKernel<T, Activation::kGelu>;
}

}  // namespace

Kernel FindKernel(FfnType type, Activation activation, int tile_rows) {
  if (IsNarrow(tile_rows)) return FindNarrowKernel(type, activation, tile_rows);
  return type == FfnType::kF16 ? KernelFor<__half>(activation) : KernelFor<__nv_bfloat16>(activation);
}

}  // namespace ting::cuda::ffn
