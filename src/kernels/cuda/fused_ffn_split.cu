// src/kernels/cuda/fused_ffn_split.cu
// SPDX-License-Identifier: Apache-2.0
//
// The fused feed-forward kernel for narrow tiles that are split, which are short of everything but arithmetic: few rows
// are spread over all multiprocessors.
//   start      X = T(norm(x)) to shared memory
//   hidden     a = T(act(X W1^T + b1)) of the whole slice, to shared memory
//   sums       a W2^T, half of the columns after the other; a half is sent to the blocks that finish its rows while the
//              other one is multiplied
//   end        what the other blocks sent, added in the order of the slices
// Remote shared memory takes 14 to 18 bytes a clock however sums are sent (stores and bulk copies alike; loads 10). A
// thread issues a copy in no less than 100 clocks: copies are few and large, and of several threads.
#include "kernels/cuda/fused_ffn_exchange.cuh"
#include "kernels/cuda/fused_ffn_transposed.cuh"

namespace ting::cuda::ffn {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// The barriers of a block.
struct Barriers {
  uint64_t full[kMaxStages], empty[kMaxStages];
  uint64_t vectors, received[2];  // the vectors' has an arrival of each lane of two warps
};

// As FindPlace, without divisions.
__device__ __forceinline__ Place FindSplitPlace(const Arguments& arguments, int tile_rows) {
  Place place;
  place.slice = static_cast<int>(ClusterRank());
  place.tile = 0;
  const int first_unit = DivideBy(arguments.units * place.slice, arguments.split_inverse);
  const int last_unit = DivideBy(arguments.units * (place.slice + 1), arguments.split_inverse);
  place.first_chunk = first_unit * 2;
  place.chunks = (last_unit - first_unit) * 2;
  place.first_row = static_cast<int>(ClusterNumber()) * tile_rows;
  place.cluster_first_row = place.first_row;
  return place;
}

// W1 of all units, then W2 of the first half of the columns, and of the second.
struct SplitOrder {
  __device__ __forceinline__ static int Count(const Place& place) { return 2 * place.chunks; }
  __device__ __forceinline__ static WeightBox BoxOf(const Place& place, int group, int i) {
    const int units = place.chunks / 2;
    if (i < 2 * units) return TransposedBox(place, group, false, i / 2, i % 2);
    const int half = i >= 3 * units ? 1 : 0;
    return TransposedBox(place, group, true, i - (2 + half) * units, half);
  }
};

// All hidden units come first, so that the sums of half of the columns are complete, and on their way to other blocks,
// while the other half is multiplied.
template <typename T, Activation kActivation, int kRows>
class SplitProducts : private TransposedSteps<T, kActivation, kRows> {
  using Steps = TransposedSteps<T, kActivation, kRows>;
  using Steps::Release, Steps::StartColumns, Steps::StartUnit;

 public:
  using typename Steps::Sums;

  __device__ __forceinline__ SplitProducts(const Ring& ring, int units, const uint8_t* x_tiles, uint8_t* hidden,
                                           const float* bias, int warp, int lane)
      : Steps(ring, x_tiles, bias, warp, lane), units_(units), hidden_(hidden) {}

  // All threads return when all hidden units are there.
  __device__ __forceinline__ void ComputeHidden() {
    Sums h;
    StartUnit(h);
    EndUnit(h);
#pragma unroll 1
    for (int unit = 1; unit < units_; ++unit) {
      Sums next;
      StartUnit(next);
      Store(h, unit - 1);
      EndUnit(next);
#pragma unroll
      for (int i = 0; i < kRows / 2; ++i) h[i] = next[i];
    }
    Store(h, units_ - 1);
    FenceAsyncProxy();
    NamedBarrier(1, kConsumers);
  }
  // Sums of half of the columns.
  __device__ __forceinline__ void MultiplyColumns(Sums& sums) {
    StartFirstUnit(sums);
    EndColumns(sums);
  }
  // The same in two parts: the first starts what the first unit adds, and other work may follow.
  __device__ __forceinline__ void StartFirstUnit(Sums& sums) { StartColumns(sums, hidden_, false); }
  __device__ __forceinline__ void EndColumns(Sums& sums) {
    EndProducts(sums);
#pragma unroll 1
    for (int unit = 1; unit < units_; ++unit) {
      StartColumns(sums, hidden_ + unit * Steps::kUnitBytes, true);
      EndProducts(sums);
    }
  }

 private:
  __device__ __forceinline__ void Store(Sums& h, int unit) const {
    this->template StoreUnit<0, kRows / 8>(h, unit, hidden_ + unit * Steps::kUnitBytes);
  }
  __device__ __forceinline__ void EndUnit(Sums& h) {
    EndProducts(h);
    Release();
  }
  __device__ __forceinline__ void EndProducts(Sums& sums) {
    WgmmaWait<0>();
    WgmmaHold(sums);
    Release();
  }

  const int units_;
  uint8_t* const hidden_;
};

// All threads of a cluster pass three barriers; the first tells that the others run, the second that their rings are
// free for sums, the third that they have received all.
template <int kRows>
__device__ __forceinline__ void ProducerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             Barriers* barriers, int warp, int lane) {
  const int group = warp - kWarps;
  const bool leader = group < 2 && lane == 0;
  GroupProducer<SplitOrder> producer(arguments, ring, place, group);
  if (leader) {
    producer.LoadFirst();
    producer.PrefetchRest(static_cast<int>(ClusterNumber()), static_cast<int>(ClustersInRow()));
  } else if (group >= 2) {
    WaitForAllCopies();
    BarrierArrive(&barriers->vectors);
  }
  __syncwarp();
  WaitForPreviousKernel();
  const int rows = ValidRows(arguments);
  const bool idle = place.first_row >= rows;
  if (leader && idle) producer.AwaitFirst();
  if (leader && !idle) producer.LoadRest();
  if (group == 2 && lane == 0 && !idle) {
    ExpectSums(arguments, place, barriers->received, min(kRows, rows - place.first_row));
  }
  __syncwarp();
  ClusterWait();
  if (idle) return;
  ClusterSync();
  ClusterSync();
}

template <typename T, Activation kActivation, int kRows>
__device__ __forceinline__ void MultiplyAndSend(const Ring& ring, const Place& place, const SplitEnd<kRows>& end,
                                                const uint8_t* x_tiles, uint8_t* hidden, const float* bias, int warp,
                                                int lane) {
  using Products = SplitProducts<T, kActivation, kRows>;
  Products products(ring, place.chunks / 2, x_tiles, hidden, bias, warp, lane);
  products.ComputeHidden();
  typename Products::Sums first, second;
  products.MultiplyColumns(first);
  products.StartFirstUnit(second);
  end.Keep(first, 0);
  ClusterWait();
  end.Send(0);
  products.EndColumns(second);
  NamedBarrier(1, kConsumers);
  ClusterArriveRelaxed();
  end.Keep(second, 1);
  ClusterWait();
  end.Send(1);
}

template <typename T, Activation kActivation, int kRows>
__device__ __forceinline__ void ConsumerRole(const Arguments& arguments, const Ring& ring, const Place& place,
                                             uint8_t* shared, Barriers* barriers, const float* vectors, int warp,
                                             int lane) {
  uint8_t* x_tiles = shared + kBarrierBytes;
  WaitForPreviousKernel();
  // More rows than there may be: their number arrives no sooner.
  InputRows<kRows> input(arguments.x, place.first_row, arguments.rows, warp, lane);
  input.Start();
  const int rows = ValidRows(arguments);
  BarrierWait(&barriers->vectors, 0);
  if (place.first_row >= rows) {  // as in the whole cluster
    ClusterWait();
    return;
  }
  input.template Store<T>(arguments, vectors, x_tiles);
  FenceAsyncProxy();
  float* ring_sums = reinterpret_cast<float*>(ring.data);
  const HalfExchange halves[2] = {{reinterpret_cast<float*>(x_tiles),
                                   reinterpret_cast<float*>(shared + arguments.layout.received), barriers->received},
                                  {ring_sums, ring_sums + kRows * kHalfD, barriers->received + 1}};
  const SplitEnd<kRows> end(arguments, place, halves, min(kRows, rows - place.first_row), warp, lane);
  NamedBarrier(1, kConsumers);
  MultiplyAndSend<T, kActivation, kRows>(ring, place, end, x_tiles, shared + arguments.layout.hidden, vectors + kB1,
                                         warp, lane);
  end.Finish(vectors);
}
#endif

// Two warpgroups of consumers, then the producers: two threads for weights, two warps for vectors.
template <typename T, Activation kActivation, int kRows>
__global__ void __launch_bounds__(kThreads, 1) SplitKernel(const __grid_constant__ Arguments arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t shared[];
  Barriers* barriers = reinterpret_cast<Barriers*>(shared);
  float* vectors = reinterpret_cast<float*>(shared + arguments.layout.vectors);
  const Ring ring{barriers->full, barriers->empty, shared + arguments.layout.ring, arguments.stages};
  const Place place = FindSplitPlace(arguments, kRows);
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);  // uniform, for the compiler
  const int lane = static_cast<int>(threadIdx.x) % 32;

  StartCluster();
  StartBlock(arguments, ring, place, &barriers->vectors, 2, vectors, warp, lane);
  ClusterArriveRelaxed();  // a release would wait for what the descriptors' prefetch reads
  if (warp >= kWarps) {
    ProducerRole<kRows>(arguments, ring, place, barriers, warp, lane);
  } else {
    ConsumerRole<T, kActivation, kRows>(arguments, ring, place, shared, barriers, vectors, warp, lane);
  }
  EndCluster();
#endif
}

template <typename T, Activation kActivation>
Kernel KernelFor(int tile_rows) {
  switch (tile_rows) {
    case 32:
      return SplitKernel<T, kActivation, 32>;
    case 40:
      return SplitKernel<T, kActivation, 40>;
    case 48:
      return SplitKernel<T, kActivation, 48>;
    default:
      return SplitKernel<T, kActivation, 64>;
  }
}
template <typename T>
Kernel KernelFor(Activation activation, int tile_rows) {
  if (activation == Activation::kSwish) return KernelFor<T, Activation::kSwish>(tile_rows);
  if (activation == Activation::kRelu) return KernelFor<T, Activation::kRelu>(tile_rows);
  return KernelFor<T, Activation::kGelu>(tile_rows);
}

}  // namespace

Kernel FindSplitKernel(DType type, Activation activation, int tile_rows) {
  return type == DType::kF16 ? KernelFor<__half>(activation, tile_rows)
                             : KernelFor<__nv_bfloat16>(activation, tile_rows);
}

}  // namespace ting::cuda::ffn
