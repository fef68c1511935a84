// tests/kernels/cuda/fused_ffn_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// Microseconds a launch of the fused feed-forward kernel, as the model runs it: a graph of 24 launches with weights of
// their own (12 layers, 50 MB), each reading what the one before wrote. Not a test; run it by
//   fused_ffn_test --gtest_also_run_disabled_tests --gtest_filter='*Bench*'
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>

#include "kernels/cuda/fused_ffn_arguments.h"
#include "tests/kernels/cuda/ffn_testing.h"

namespace ting::cuda {
namespace {

constexpr int kLaunches = 24;
constexpr double kMultiplyAdds = 2.0 * 2048 * 256;  // a row

class FusedFfnBench : public ::testing::Test {
 protected:
  void SetUp() override {
    TING_SKIP_WITHOUT_HOPPER();
    ASSERT_CUDA(cudaStreamCreate(&stream_));
    for (int i = 0; i < kLaunches; ++i) {
      layers_.push_back(std::make_unique<RandomLayer>(LayerCase{.post = i % 2 == 1}, 1000 + 10 * i));
      ffns_.push_back(FusedFfn::Create(layers_.back()->weights()).value());
    }
  }

  // Median of replays, in microseconds a launch; negative: it does not run.
  double Measure(int64_t rows, const FfnConfig& config, bool dependent) {
    DeviceArray<float> a(RandomFloats(rows * kWidth, 2, 5)), b(rows * kWidth);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    if (cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return -1;
    for (int i = 0; i < kLaunches; ++i) {
      const Status status = ffns_[i].Run((i % 2 == 0 ? a : b).data(), (i % 2 == 0 ? b : a).data(), rows, nullptr,
                                         config, stream_, dependent && i > 0);
      if (!status.ok()) return -2;
    }
    if (cudaStreamEndCapture(stream_, &graph) != cudaSuccess) return -3;
    if (cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess) return -4;
    cudaEvent_t begin, end;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    std::vector<float> times;
    for (int i = 0; i < 15; ++i) {
      cudaEventRecord(begin, stream_);
      cudaGraphLaunch(exec, stream_);
      cudaEventRecord(end, stream_);
      if (cudaStreamSynchronize(stream_) != cudaSuccess) return -5;
      float ms = 0;
      cudaEventElapsedTime(&ms, begin, end);
      if (i >= 4) times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    return times[times.size() / 2] * 1000.0 / kLaunches;
  }

  cudaStream_t stream_ = nullptr;
  std::vector<std::unique_ptr<RandomLayer>> layers_;
  std::vector<FusedFfn> ffns_;
};

TEST_F(FusedFfnBench, DISABLED_Cuts) {
  for (int64_t rows : {20, 124, 170, 248, 496, 992, 1360, 1984, 2720, 3968, 7936, 10880}) {
    const FfnConfig chosen = FusedFfn::ChooseConfig(rows, 2048);
    std::printf("rows %5ld    tile split sharing blocks |   us  us dependent  TFLOP/s\n", static_cast<long>(rows));
    for (const int tile : kFfnTileRows) {
      for (int split : {1, 2, 3, 4, 6, 8, 12, 16}) {
        for (int sharing : {1, 2, 4}) {
          const FfnConfig config{tile, split, sharing};
          if (!FusedFfn::SupportsConfig(config, 2048).ok()) continue;
          const int64_t tile_rows = int64_t{tile} * sharing;
          const int64_t blocks = (rows + tile_rows - 1) / tile_rows * sharing * split;
          if (blocks > 300 || (rows > 256 && blocks < 48)) continue;  // several waves, or few multiprocessors
          const double us = Measure(rows, config, false), dependent_us = Measure(rows, config, true);
          const bool is_chosen = tile == chosen.tile_rows && split == chosen.split && sharing == chosen.sharing;
          std::printf("           %7d %5d %7d %6ld | %6.2f %6.2f %8.0f %s\n", tile, split, sharing,
                      static_cast<long>(blocks), us, dependent_us,
                      2 * kMultiplyAdds * static_cast<double>(rows) / dependent_us * 1e-6,
                      is_chosen ? "<- chosen" : "");
        }
      }
    }
  }
}

// How many clusters of each size run at once, which bounds the useful grids.
TEST_F(FusedFfnBench, DISABLED_ResidentClusters) {
  for (const int tile : kFfnTileRows) {
    for (int cluster = 1; cluster <= 16; ++cluster) {
      cudaLaunchAttribute attribute;
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
      cudaLaunchConfig_t config{};
      config.gridDim = dim3(static_cast<unsigned>(cluster) * 200);
      config.blockDim = dim3(static_cast<unsigned>(ffn::kThreads));
      config.dynamicSmemBytes = 220 * 1024;
      config.attrs = &attribute;
      config.numAttrs = 1;
      int clusters = 0;
      const void* kernel =
          reinterpret_cast<const void*>(ffn::FindKernel(DType::kF16, Activation::kSwish, tile, cluster));
      EXPECT_EQ(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config), cudaSuccess);
      std::printf("tile %3d cluster %2d: %d clusters, %d blocks\n", tile, cluster, clusters, clusters * cluster);
    }
  }
}

}  // namespace
}  // namespace ting::cuda
