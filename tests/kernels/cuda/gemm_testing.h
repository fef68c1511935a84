// tests/kernels/cuda/gemm_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// What tests and benches of matrix products and convolutions on the GPU share: seeded values, times by graph replay.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "tests/support/gpu_test.h"
#include "ting/status.h"

namespace ting::cuda {

// Uniform in offset +- range.
inline std::vector<float> RandomFloats(size_t count, float range, uint32_t seed, float offset = 0) {
  std::mt19937 generator(seed);
  std::vector<float> values(count);
  for (float& v : values) {
    v = offset + range * (static_cast<float>(generator() >> 8) * 0x1p-23F - 1);
  }
  return values;
}

// Queues a kernel that leaves nothing of others in the instruction caches (evict_code.cu).
Status EvictCode(cudaStream_t stream);

// Microseconds of one of `launches` calls of `launch(i, stream)`, from replays of a graph of them; the median of five.
inline double GraphMicroseconds(int launches, const std::function<Status(int, cudaStream_t)>& launch) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t instance = nullptr;
  EXPECT_CUDA(cudaStreamCreate(&stream));
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) EXPECT_OK(launch(i, stream));
  EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
  EXPECT_CUDA(cudaGraphInstantiate(&instance, graph, 0));
  cudaEvent_t start = nullptr, end = nullptr;
  EXPECT_CUDA(cudaEventCreate(&start));
  EXPECT_CUDA(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 7; ++i) {
    EXPECT_CUDA(cudaEventRecord(start, stream));
    EXPECT_CUDA(cudaGraphLaunch(instance, stream));
    EXPECT_CUDA(cudaEventRecord(end, stream));
    EXPECT_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    EXPECT_CUDA(cudaEventElapsedTime(&ms, start, end));
    if (i >= 2) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  cudaEventDestroy(start), cudaEventDestroy(end);
  cudaGraphExecDestroy(instance), cudaGraphDestroy(graph), cudaStreamDestroy(stream);
  return 1000.0 * times[2] / launches;
}

}  // namespace ting::cuda
