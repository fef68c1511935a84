// src/kernels/cuda/fused_ffn_ring.cuh
// SPDX-License-Identifier: Apache-2.0
//
// How weights reach the fused feed-forward kernels: through a ring of stages in shared memory, from producers to
// warpgroups; and how a block starts that has a producer for each warpgroup.
#pragma once

#include "kernels/cuda/fused_ffn_rows.cuh"
#include "kernels/cuda/ring_place.cuh"

namespace ting::cuda::ffn {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Ring {
  uint64_t* full;
  uint64_t* empty;
  uint8_t* data;
  int stages;
};

// Where a stage of 16 KB comes from: a box of 128 bytes a row, of 64 rows and two tiles of 64 columns or of 128 rows.
struct WeightBox {
  bool second;    // W2
  int row, tile;  // of 64 columns
};

// Stage i of `steps` steps, of each of which there are two stages of W1 and two of W2: W1 of the first step; then W1 of
// each next step and W2 of the one before it.
struct InterleavedStage {
  bool second;
  int step, half;
  __device__ __forceinline__ InterleavedStage(int i, int steps) {
    const int before = (i - 2) / 4, part = (i - 2) % 4;
    second = i >= 2 && (before + 1 == steps || part >= 2);
    step = i < 2 ? 0 : second ? before : before + 1;
    half = i % 2;
  }
};

// The producer of a warpgroup's weights, one thread, in all kernels but that of wide tiles. A stage is one box of 16
// KB, because a thread issues a copy in no less than 100 clocks and a stage in 300, and 8 KB boxes of a single thread
// arrived at 23 to 33 bytes a clock, however many multiprocessors shared L2. Stages alternate between the warpgroups.
// Those of one are Order::BoxOf(place, group, i) for i below Order::Count(place).
template <typename Order>
class GroupProducer {
 public:
  __device__ __forceinline__ GroupProducer(const Arguments& arguments, const Ring& ring, const Place& place, int group)
      : arguments_(arguments),
        ring_(ring),
        place_(place),
        group_(group),
        count_(Order::Count(place)),
        slots_(ring.stages / 2),
        at_{group, 0} {}

  // As many as there is room for.
  __device__ __forceinline__ void LoadFirst() { LoadUntil(min(slots_, count_)); }
  __device__ __forceinline__ void LoadRest() { LoadUntil(count_); }
  // The weights of all layers exceed L2, and a ring is too short for the latency of memory: all tiles together, of
  // which this is number `tile`, ask for the slice at once.
  __device__ __forceinline__ void PrefetchRest(int tile, int tiles) const {
#pragma unroll 1
    for (int i = next_ + tile; i < count_; i += tiles) {
      const WeightBox box = Order::BoxOf(place_, group_, i);
      TmaPrefetch3d(box.second ? &arguments_.w2 : &arguments_.w1, 0, box.row, box.tile);
    }
  }
  // Nobody will read what LoadFirst has asked for.
  __device__ __forceinline__ void AwaitFirst() const {
    for (int i = 0; i < min(slots_, count_); ++i) BarrierWait(&ring_.full[2 * i + group_], 0);
  }

 private:
  static constexpr int kStageBytes = StageBytes(Form::kSplit);

  __device__ __forceinline__ void LoadUntil(int end) {
#pragma unroll 1
    for (; next_ < end; ++next_) {
      uint64_t* full = &ring_.full[at_.place];
      if (next_ >= slots_) BarrierWait(&ring_.empty[at_.place], at_.parity ^ 1);
      BarrierExpect(full, kStageBytes);
      const WeightBox box = Order::BoxOf(place_, group_, next_);
      TmaLoad3d(ring_.data + at_.place * kStageBytes, box.second ? &arguments_.w2 : &arguments_.w1, full, 0, box.row,
                box.tile);
      at_.Forward(ring_.stages, 2);
    }
  }

  const Arguments& arguments_;
  const Ring& ring_;
  const Place& place_;
  const int group_, count_, slots_;
  int next_ = 0;
  RingPlace at_;
};

// Inits the barriers of the ring and of the vectors, which have an arrival of each lane of two warps, and `others`
// behind that one; asks for the vectors of `place`. All threads of the block return together.
__device__ __forceinline__ void StartBlock(const Arguments& arguments, const Ring& ring, const Place& place,
                                           uint64_t* vectors_barrier, int others, float* vectors, int warp, int lane) {
  constexpr int kReaders = 4;         // warps of a stage
  constexpr int kVectorThreads = 64;  // that copy vectors
  if (warp == kWarps) {
    if (lane < kMaxStages) {
      BarrierInit(&ring.full[lane], 1);
      BarrierInit(&ring.empty[lane], kReaders);
    } else if (lane <= kMaxStages + others) {
      BarrierInit(vectors_barrier + (lane - kMaxStages), lane == kMaxStages ? kVectorThreads : 1);
    }
    BarrierInitFence();
  } else if (threadIdx.x == kConsumers + 32) {
    TmaPrefetchMap(&arguments.w1);
    TmaPrefetchMap(&arguments.w2);
  } else if (warp >= kWarps + 2) {
    // Before the weights, behind which they would arrive.
    StartVectors(arguments, place, vectors, static_cast<int>(threadIdx.x) - kConsumers - 64, kVectorThreads);
  }
  __syncthreads();
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::ffn
