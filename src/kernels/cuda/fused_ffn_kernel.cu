// src/kernels/cuda/fused_ffn_kernel.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/fused_ffn_kernel.cuh"

namespace ting::cuda::ffn {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Rows in this call; reads what the kernel before may have written.
__device__ __forceinline__ int ValidRows(const Arguments& arguments) {
  return arguments.num_rows == nullptr ? arguments.rows : min(*arguments.num_rows, arguments.rows);
}

template <int kRowGroups>
__device__ __forceinline__ void ProducerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             bool leader) {
  Producer<kRowGroups == 1 ? 2 : 1> producer(arguments, ring, place);
  if (leader) producer.LoadUntil(arguments.stages);
  WaitForPreviousKernel();
  if (place.cluster_first_row >= ValidRows(arguments)) return;
  if (leader) producer.LoadUntil(producer.Stages());
  __syncwarp();
  ClusterSync();
  ClusterSync();
}

template <int kRowGroups>
__device__ __forceinline__ void Finish(const Arguments& arguments, const Place& place, const float* partial,
                                       const float* vectors, int rows, int warp, int lane) {
  const int split = arguments.split;
  if (split == 1) {
    FinishRows<1, 1, kRowGroups>(arguments, place, partial, vectors, rows, warp, lane);
  } else if (split == 2) {
    FinishRows<2, 2, kRowGroups>(arguments, place, partial, vectors, rows, warp, lane);
  } else if (split <= 4) {
    FinishRows<3, 4, kRowGroups>(arguments, place, partial, vectors, rows, warp, lane);
  } else if (split <= 8) {
    FinishRows<5, 8, kRowGroups>(arguments, place, partial, vectors, rows, warp, lane);
  } else {
    FinishRows<9, 16, kRowGroups>(arguments, place, partial, vectors, rows, warp, lane);
  }
}

template <typename T, Activation kActivation, int kRowGroups>
__device__ __forceinline__ void ConsumerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             uint8_t* shared, uint8_t* hidden, float* vectors, int warp, int lane) {
  uint8_t* x_tiles = shared + kBarrierBytes;
  float* partial = reinterpret_cast<float*>(x_tiles);
  const int group = warp / 4;
  StartVectors(arguments, place, vectors);
  WaitForPreviousKernel();
  InputRows<8 * kRowGroups> input(warp, lane);
  input.Load(arguments.x, place.first_row, arguments.rows);  // more than there may be: their number arrives no sooner
  const int rows = ValidRows(arguments);
  CopiesAsyncWait();
  if (place.cluster_first_row >= rows) {
    // The whole cluster leaves; but not while weights are still arriving.
    for (int i = 0; i < min(ring.stages, 2 * place.chunks); ++i) BarrierWait(&ring.full[i], 0);
    return;
  }
  NamedBarrier(1, kConsumers);  // the vectors
  if (arguments.norm_gamma != nullptr) input.Normalise(vectors + kGamma, vectors + kBeta, arguments.norm_eps);
  input.template Store<T>(x_tiles);
  FenceAsyncProxy();
  if constexpr (kRowGroups == 1) {
    NamedBarrier(1, kConsumers);
    float acc[64];
    MultiplyColumns<T, kActivation>(acc, arguments, ring, place, x_tiles, hidden, vectors + kB1, group, warp, lane);
    NamedBarrier(1, kConsumers);  // the other may still read what the partial sums overwrite
    StorePartial(acc, partial, warp % 4 * 16, group * 128, lane);
  } else {
    NamedBarrier(2 + group, 128);
    float acc[128];
    MultiplyRows<T, kActivation>(acc, arguments, ring, place, x_tiles + group * kStageBytes, vectors + kB1, lane);
    NamedBarrier(1, kConsumers);
    StorePartial(acc, partial, warp * 16, 0, lane);
  }
  Finish<kRowGroups>(arguments, place, partial, vectors, rows, warp, lane);
}
#endif

// Two warpgroups of consumers, then the producer, of which one thread works.
template <typename T, Activation kActivation, int kRowGroups>
__global__ void __launch_bounds__(kThreads, 1) FusedFfnKernel(const __grid_constant__ Arguments arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kReaders = kRowGroups == 1 ? 4 : 8;  // warps of a stage
  extern __shared__ __align__(1024) uint8_t shared[];
  const SharedLayout layout = LayoutOf(kRowGroups, arguments.stages, 0);
  uint64_t* barriers = reinterpret_cast<uint64_t*>(shared);
  const Ring ring{barriers, barriers + kMaxStages, shared + layout.ring, arguments.stages};
  const Place place = FindPlace(arguments, kRowGroups * kGroupRows);
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
  LetNextKernelStart();
  if (warp >= kConsumers / 32) {
    RegistersDown<24>();
    ProducerRole<kRowGroups>(arguments, ring, place, threadIdx.x == kConsumers);
  } else {
    RegistersUp<240>();
    ConsumerRole<T, kActivation, kRowGroups>(arguments, ring, place, shared, shared + layout.hidden,
                                             reinterpret_cast<float*>(shared + layout.vectors), warp, threadIdx.x % 32);
  }
#endif
}

template <typename T, Activation kActivation>
Kernel KernelFor(int row_groups) {
  return row_groups == 1 ? FusedFfnKernel<T, kActivation, 1> : FusedFfnKernel<T, kActivation, 2>;
}
template <typename T>
Kernel KernelFor(Activation activation, int row_groups) {
  if (activation == Activation::kSwish) return KernelFor<T, Activation::kSwish>(row_groups);
  if (activation == Activation::kRelu) return KernelFor<T, Activation::kRelu>(row_groups);
  return KernelFor<T, Activation::kGelu>(row_groups);
}

}  // namespace

Kernel FindKernel(FfnType type, Activation activation, int row_groups) {
  return type == FfnType::kF16 ? KernelFor<__half>(activation, row_groups)
                               : KernelFor<__nv_bfloat16>(activation, row_groups);
}

}  // namespace ting::cuda::ffn
