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

__device__ __forceinline__ void ProducerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             bool leader) {
  Producer producer(arguments, ring, place);
  if (leader) producer.LoadUntil(arguments.stages);
  WaitForPreviousKernel();
  if (place.cluster_first_row >= ValidRows(arguments)) return;
  if (leader) producer.LoadUntil(2 * arguments.chunks);
  __syncwarp();
  ClusterSync();
  ClusterSync();
}

template <typename T, Activation kActivation, int kGroups>
__device__ __forceinline__ void ConsumerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             uint8_t* shared, float* bias, int warp, int lane) {
  constexpr int kThreads = 128 * kGroups;
  Row8 gamma = {}, beta = {};
  if (arguments.norm_gamma != nullptr) {
    Load4(arguments.norm_gamma + 8 * lane, gamma.v), Load4(arguments.norm_gamma + 8 * lane + 4, gamma.v + 4);
    Load4(arguments.norm_beta + 8 * lane, beta.v), Load4(arguments.norm_beta + 8 * lane + 4, beta.v + 4);
  }
  const float* b1 = arguments.b1 + place.slice * arguments.chunks * kChunk;
  for (int i = threadIdx.x; i < arguments.chunks * kChunk; i += kThreads) {
    bias[i] = arguments.b1 != nullptr ? b1[i] : 0.0F;
  }
  WaitForPreviousKernel();
  const int rows = ValidRows(arguments);
  if (place.cluster_first_row >= rows) {
    // The whole cluster leaves; but not while weights are still arriving.
    for (int i = 0; i < min(ring.stages, 2 * arguments.chunks); ++i) BarrierWait(&ring.full[i], 0);
    return;
  }
  const int group = warp / 4;
  uint8_t* group_x = shared + kBarrierBytes + group * kGroupRows * kD * 2;
  FillX<T>(arguments, group_x, place.first_row + group * kGroupRows, rows, warp % 4, lane, gamma, beta);
  FenceAsyncProxy();
  NamedBarrier(1, kThreads);  // X of the group and the bias, to which all groups contribute
  float acc[128];
  MultiplySlice<T, kActivation>(acc, arguments, ring, place, group_x, bias, lane);
  NamedBarrier(1, kThreads);  // other groups may still read what the partial sums overwrite
  float* partial = reinterpret_cast<float*>(shared + kBarrierBytes);
  StorePartial(acc, partial, warp, lane);
  ClusterSync();
  switch (arguments.split) {
    case 1:
      FinishRows<1>(arguments, place, partial, rows, warp, 4 * kGroups, lane);
      break;
    case 2:
      FinishRows<2>(arguments, place, partial, rows, warp, 4 * kGroups, lane);
      break;
    case 4:
      FinishRows<4>(arguments, place, partial, rows, warp, 4 * kGroups, lane);
      break;
    case 8:
      FinishRows<8>(arguments, place, partial, rows, warp, 4 * kGroups, lane);
      break;
    default:
      FinishRows<16>(arguments, place, partial, rows, warp, 4 * kGroups, lane);
      break;
  }
  __syncwarp();
  ClusterSync();  // nobody leaves while others read its partial sums
}
#endif

// kGroups warpgroups of consumers, then the producer, of which one thread works.
template <typename T, Activation kActivation, int kGroups>
__global__ void __launch_bounds__(ThreadsFor(kGroups), 1) FusedFfnKernel(const __grid_constant__ Arguments arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kWarps = 4 * kGroups;
  extern __shared__ __align__(1024) uint8_t shared[];
  const SharedLayout layout = LayoutOf(kGroups, arguments.stages, arguments.chunks);
  uint64_t* barriers = reinterpret_cast<uint64_t*>(shared);
  const Ring ring{barriers, barriers + kMaxStages, shared + layout.ring, arguments.stages};
  const Place place = FindPlace(arguments.split, arguments.sharing, kGroups * kGroupRows);
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);  // uniform, for the compiler

  if (threadIdx.x == kWarps * 32) {
    TmaPrefetchMap(&arguments.w1);
    TmaPrefetchMap(&arguments.w2);
    for (int i = 0; i < ring.stages; ++i) {
      BarrierInit(&ring.full[i], 1);
      BarrierInit(&ring.empty[i], kWarps * arguments.sharing);
    }
    BarrierInitFence();
  }
  if (arguments.sharing > 1) {
    ClusterSync();  // the barriers of other blocks are used before the end, too
  } else {
    __syncthreads();
  }
  LetNextKernelStart();
  if (warp >= kWarps) {
    if constexpr (kGroups > 1) RegistersDown<24>();
    ProducerRole(arguments, ring, place, threadIdx.x == kWarps * 32);
  } else {
    if constexpr (kGroups > 1) RegistersUp<240>();
    ConsumerRole<T, kActivation, kGroups>(arguments, ring, place, shared,
                                          reinterpret_cast<float*>(shared + layout.bias), warp, threadIdx.x % 32);
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
