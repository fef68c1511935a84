// tests/kernels/cuda/conv_pair_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// Times of ConvPair for utterances of 5 s of a U2 conformer (80 mel, C = 256), f16, by graph replay, in every cut, with
// warm and with cold instruction caches. `ConvPairBench.*` of conv_kernels_test.
#include <cstdio>

#include "tests/kernels/cuda/conv_pair_testing.h"

namespace ting::cuda {
namespace {

constexpr int kLaunches = 40;

TEST(ConvPairBench, Cuts) {
  TING_SKIP_WITHOUT_HOPPER();
  const double evict = GraphMicroseconds(kLaunches, [](int, cudaStream_t stream) { return EvictCode(stream); });
  for (const int B : {1, 2, 4, 8, 16, 32, 64}) {
    const PairProblem<__half> problem({std::vector<int>(static_cast<size_t>(B), 500)});
    ConvPairArguments a = problem.Arguments();
    a.dependent = true;
    const double flops = 2 * 124.0 * 19 * B * 256 * 2304;
    const ConvPairConfig chosen = ChooseConvPairConfig(a, 132);
    for (const ConvPairConfig& c : kConvPairConfigs) {
      const double us = GraphMicroseconds(kLaunches, [&](int, cudaStream_t s) { return ConvPair(a, c, s); });
      const double cold = GraphMicroseconds(kLaunches, [&](int, cudaStream_t s) {
        EXPECT_OK(EvictCode(s));
        return ConvPair(a, c, s);
      });
      std::printf("batch %2d  %3d x %3d: %7.2f us %6.1f TFLOP/s, cold %7.2f us%s\n", B, c.channels, c.positions, us,
                  1e-6 * flops / us, cold - evict,
                  c.channels == chosen.channels && c.positions == chosen.positions ? "  (chosen)" : "");
    }
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace ting::cuda
