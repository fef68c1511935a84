// src/kernels/cuda/conv_pair_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// ConvPair as one kernel. The second stage is a product, channels x positions, summed over (32 channels of the first
// stage, tap) one after the other; channels are the rows of wgmma's A, because its B may have any multiple of 8
// columns, so that tiles of positions fill the device evenly. A block is
//   consumers: 1 or 2 warpgroups with tiles of 64 channels, which multiply, and write the results;
//   producers: 1 or 2 warpgroups that make the operand B from the features. The first stage is a product, too,
//     frequencies and time rows x channels, summed over the taps. Features are f32 and go in as two 16-bit parts, whose
//     8 first taps fill one K of 16; the ninth is multiplied in f32. They stay in registers as operands while the
//     channels pass by. A value is stored once for each frequency tap that uses it. In f32 multiplications, whose
//     weights came from shared memory, the kernel took 338 us instead of 255 to 272 (ConvPairBench, batch 64, H100,
//     2026-11-26);
//   three warps that load a tile's features, normalised, while the one before is made;
//   a warp, one lane of which fetches W into a ring. The two blocks of a cluster have neighbouring tiles of positions
//     and fetch halves of W for each other: all multiprocessors at once could not get theirs from L2.
// B lies in core matrices without swizzle, [8 channels][position], 16 bytes each: any position may be the first one of
// an operand, so a tap is no more than another start. Blocks stay and take tile after tile; B's two buffers let the
// producers run ahead into the next tile while the results of this one are written.
#pragma once

#include "kernels/cuda/conv_pair_consumer.cuh"
#include "kernels/cuda/conv_pair_loads.cuh"
#include "kernels/cuda/conv_pair_producer.cuh"

namespace ting::cuda {

template <typename Shape>
__device__ inline void InitConvBarriers(const ConvPairBlock<Shape>& block) {
  for (int stage = 0; stage < block.stages; ++stage) {
    BarrierInit(&block.full[stage], 1);
    BarrierInit(&block.empty[stage], kConvClusterBlocks * Shape::kConsumers * 4);
  }
  for (int i = 0; i < 2; ++i) {
    BarrierInit(&block.full_b[i], 4);  // a warpgroup's warps
    BarrierInit(&block.empty_b[i], Shape::kConsumers * 4);
  }
  BarrierInit(block.full_features, ConvPlanner<Shape>::kThreads);
  BarrierInit(block.empty_features, Shape::kProducers * 128);
  BarrierInitFence();
}

// Registers go from the warpgroup that fetches to the others, as many as a multiprocessor has.
template <typename T, typename Shape>
__global__ void __launch_bounds__(kConvPairThreads, 1) ConvPairKernel(const __grid_constant__ ConvPairParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  constexpr bool kLarge = Shape::kTiles > 1;
  const ConvPairBlock<Shape> block(p, shared);
  constexpr int kFetcher = (Shape::kConsumers + Shape::kProducers) * 128;
  if (threadIdx.x == kFetcher) {
    TmaPrefetchMap(&p.w);
    InitConvBarriers(block);
  }
  __syncthreads();
  ClusterSync();  // no block sends before all barriers are there
  if (threadIdx.x >= kFetcher) {
    RegistersDown<kLarge ? 24 : 112>();
    if (threadIdx.x == kFetcher) {
      FetchWeights<Shape>(p, block);
    } else if (threadIdx.x >= kFetcher + 32) {
      const ConvPlanner<Shape> planner(p, block);
      planner.LoadNorms();
      WaitForPreviousKernel();
      planner.Run();
    } else {
      WaitForPreviousKernel();
    }
  } else if (threadIdx.x < Shape::kProducers * 128) {
    RegistersUp<kLarge ? 136 : 144>();
    ConvProducer<T, Shape> producer(p, block);
    producer.LoadTaps();
    WaitForPreviousKernel();
    producer.Run();
  } else {
    if constexpr (kLarge) {
      RegistersUp<176>();
    } else {
      RegistersDown<112>();
    }
    ConvConsumer<T, Shape> consumer(p, block);
    consumer.LoadBias();
    WaitForPreviousKernel();
    consumer.Run();
  }
  __syncwarp();
  ClusterSync();  // a block's memory lives until its partner has sent the last of W and of its arrivals
#endif
}

template <typename T, size_t kIndex = 0>
ConvPairFunction FindConvPairOf(const ConvPairConfig& config) {
  if constexpr (kIndex == sizeof kConvPairConfigs / sizeof kConvPairConfigs[0]) {
    return nullptr;
  } else {
    constexpr ConvPairConfig c = kConvPairConfigs[kIndex];
    if (config.channels == c.channels && config.positions == c.positions) {
      return ConvPairKernel<T, ConvPairShape<c.channels, c.positions>>;
    }
    return FindConvPairOf<T, kIndex + 1>(config);
  }
}

}  // namespace ting::cuda
