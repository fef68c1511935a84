// tests/kernels/cuda/conv_pair_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// Times of ConvPair for utterances of 5 s of a U2 conformer (80 mel, C = 256), f16, by graph replay. `ConvPairBench.*`
// of conv_kernels_test. The workspaces of consecutive launches are the same: up to a batch of 8 they stay in L2.
#include <cstdio>

#include "tests/kernels/cuda/conv_pair_testing.h"

namespace ting::cuda {
namespace {

constexpr int kLaunches = 40;

TEST(ConvPairBench, Stages) {
  TING_SKIP_WITHOUT_GPU(9);
  for (const int B : {1, 8, 16, 64}) {
    const PairProblem<__half> problem({std::vector<int>(static_cast<size_t>(B), 500)});
    const ConvPairArguments a = problem.Arguments();
    const double outputs = 124.0 * 19 * B, flops = 2 * outputs * 256 * 2304;
    const double bytes = B * 4.0 * 500 * 80 + B * 2.0 * 249 * 39 * 256;
    const double first = GraphMicroseconds(kLaunches, [&](int, cudaStream_t s) { return ConvPairFirst(a, s); });
    std::printf("batch %2d  first %7.2f us %6.0f GB/s\n", B, first, 1e-3 * bytes / first);
    const ConvPairConfig chosen = ChooseConvPairConfig(a, 132);
    for (const ConvPairConfig& c : kConvPairConfigs) {
      const double us = GraphMicroseconds(kLaunches, [&](int, cudaStream_t s) { return ConvPairSecond(a, c, s); });
      std::printf("batch %2d  second %d x %d, clusters of %d x %d: %7.2f us %6.1f TFLOP/s%s\n", B, 64 * c.groups,
                  c.tile_n, c.cluster_rows, c.cluster_columns, us, 1e-6 * flops / us,
                  c.groups == chosen.groups && c.tile_n == chosen.tile_n ? "  (chosen)" : "");
    }
    const double pair = GraphMicroseconds(kLaunches, [&](int, cudaStream_t s) { return ConvPair(a, s); });
    std::printf("batch %2d  both  %7.2f us %6.1f TFLOP/s\n", B, pair, 1e-6 * flops / pair);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace ting::cuda
