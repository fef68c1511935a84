// tests/kernels/cuda/row_gemm_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// Times of the products of a U2 conformer (D = 256, 124 rows an utterance): a graph of 120 launches over 12 sets of
// weights, as a step has them. `RowGemmBench.*` of row_gemm_test.
#include <cstdio>
#include <map>
#include <memory>

#include "kernels/cuda/row_gemm.h"
#include "tests/kernels/cuda/gemm_testing.h"

namespace ting::cuda {
namespace {

constexpr int kSets = 12, kLaunches = 120;

struct Layer {
  const char* name;
  int64_t N, K;
  bool norm;
  RowGemmOutput output;
  bool residual;
};
constexpr Layer kLayers[] = {{"qkv+ln", 768, 256, true, RowGemmOutput::kHalf, false},
                             {"qkv", 768, 256, false, RowGemmOutput::kHalf, false},
                             {"q+ln", 256, 256, true, RowGemmOutput::kHalf, false},
                             {"out", 256, 256, false, RowGemmOutput::kFloat, true},
                             {"pw1+ln+glu", 512, 256, true, RowGemmOutput::kGlu, false},
                             {"kv", 3072, 256, false, RowGemmOutput::kHalf, false},
                             {"logits+ln", 4233, 256, true, RowGemmOutput::kFloat, false},
                             {"ffn2", 256, 2048, false, RowGemmOutput::kFloat, true},
                             {"embed", 256, 4864, false, RowGemmOutput::kFloat, false}};

class Workload {
 public:
  Workload(const Layer& layer, int64_t M)
      : layer_(layer),
        M_(M),
        x_(RoundedAll<__half>(RandomFloats(static_cast<size_t>(M * layer.K), 1, 1))),
        xf_(RandomFloats(static_cast<size_t>(M * layer.K), 1, 2)),
        w_(RoundedAll<__half>(RandomFloats(static_cast<size_t>(kSets * layer.N * layer.K), 0.1F, 3))),
        vectors_(RandomFloats(8192, 1, 4)),
        residual_(RandomFloats(static_cast<size_t>(M * Stride()), 1, 5)),
        y_(static_cast<size_t>(M * Stride())) {}

  RowGemmArguments Arguments(int set) const {
    RowGemmArguments a;
    a.M = M_, a.N = layer_.N, a.K = layer_.K;
    if (layer_.norm) a.x_f32 = xf_.data(), a.gamma = vectors_.data(), a.beta = vectors_.data() + 1024;
    if (!layer_.norm) a.x = x_.data();
    a.x_stride = layer_.K;
    a.weight = w_.data() + set * layer_.N * layer_.K;
    a.bias = vectors_.data();
    a.output = layer_.output;
    if (layer_.residual) a.residual = residual_.data();
    a.y = y_.data();
    a.y_stride = a.residual_stride = Stride();
    return a;
  }
  double Microseconds(const RowGemmConfig* config, bool dependent, bool cold = false) const {
    return GraphMicroseconds(kLaunches, [&](int i, cudaStream_t stream) {
      if (cold) EXPECT_OK(EvictCode(stream));
      RowGemmArguments a = Arguments(i % kSets);
      a.dependent = dependent && i > 0;
      return config != nullptr ? RowGemm(a, *config, stream) : RowGemm(a, stream);
    });
  }
  double Tera(double us) const { return 2e-6 * static_cast<double>(M_ * layer_.N * layer_.K) / us; }

 private:
  int64_t Stride() const { return (layer_.N + 7) / 8 * 8; }
  Layer layer_;
  int64_t M_;
  DeviceArray<__half> x_;
  DeviceArray<float> xf_;
  DeviceArray<__half> w_;
  DeviceArray<float> vectors_, residual_, y_;
};

TEST(RowGemmBench, Layers) {
  TING_SKIP_WITHOUT_HOPPER();
  for (const int64_t M : {124, 992, 1984, 7936, 11264}) {
    for (const Layer& layer : kLayers) {
      const Workload workload(layer, M);
      const RowGemmConfig c = ChooseRowGemmConfig(workload.Arguments(0), 132);
      const double alone = workload.Microseconds(nullptr, false), chained = workload.Microseconds(nullptr, true);
      std::printf("%5ld rows %-11s %7.2f us %6.1f TFLOP/s, dependent %7.2f us  (%d x %d x %d, split %d, share %d)\n",
                  static_cast<long>(M), layer.name, alone, workload.Tera(alone), chained, c.groups, c.tile_n,
                  c.tiles_per_block, c.split, c.share);
    }
  }
}

// Every way of cutting, to judge the choice by: the chosen one and all, fastest first.
std::multimap<double, RowGemmConfig> AllTimes(const Layer& layer, const Workload& workload, bool cold = false) {
  std::multimap<double, RowGemmConfig> times;
  for (RowGemmConfig config : {RowGemmConfig{1, 32}, {2, 32}, {1, 64}, {2, 64}, {1, 128}, {2, 128}}) {
    const int tiles = static_cast<int>((layer.N + config.tile_n - 1) / config.tile_n);
    const bool resident = RowGemmSegments(layer.K) == 1;
    for (int per_block = 1; per_block <= tiles; per_block += per_block < 4 ? 1 : (per_block + 1) / 2) {
      std::vector<std::pair<int, int>> clusters = {{1, 1}, {1, 2}};
      if (!resident) clusters.emplace_back(RowGemmSegments(layer.K), 1);
      if (resident && per_block < config.groups) continue;
      for (const auto& [split, share] : clusters) {
        config.tiles_per_block = per_block, config.split = split, config.share = share;
        for (config.rows = 16; config.rows <= 64; config.rows *= 2) {
          if (!SupportsRowGemm(workload.Arguments(0), config).ok()) continue;
          times.emplace(workload.Microseconds(&config, true, cold), config);
        }
      }
    }
  }
  const RowGemmConfig stationary = StationaryConfig(workload.Arguments(0), 132);
  if (SupportsRowGemm(workload.Arguments(0), stationary).ok()) {
    times.emplace(workload.Microseconds(&stationary, true, cold), stationary);
  }
  return times;
}
void PrintConfig(const RowGemmConfig& c, double us) {
  std::printf("  %dx%dx%d%s%s", c.groups, c.tile_n, c.tiles_per_block, c.share > 1 ? "s" : "", c.split > 1 ? "/" : "");
  if (c.rows != 64) std::printf("r%d", c.rows);
  std::printf(" %.2f", us);
}
TEST(RowGemmBench, Choices) {
  TING_SKIP_WITHOUT_HOPPER();
  for (const int64_t M : {124, 992, 1984, 7936, 11264}) {
    for (const Layer& layer : kLayers) {
      const Workload workload(layer, M);
      const RowGemmConfig chosen = ChooseRowGemmConfig(workload.Arguments(0), 132);
      std::printf("%5ld rows %-11s chosen", static_cast<long>(M), layer.name);
      PrintConfig(chosen, workload.Microseconds(&chosen, true));
      std::printf(";");
      for (const auto& [us, config] : AllTimes(layer, workload)) PrintConfig(config, us);
      std::printf("\n");
    }
  }
}
// With instruction caches as a model leaves them.
TEST(RowGemmBench, ChoicesWithColdCode) {
  TING_SKIP_WITHOUT_HOPPER();
  const double evict = GraphMicroseconds(kLaunches, [](int, cudaStream_t stream) { return EvictCode(stream); });
  for (const int64_t M : {124, 992}) {
    for (const Layer& layer : kLayers) {
      if (layer.N > 768 || layer.K > 256) continue;
      const Workload workload(layer, M);
      const RowGemmConfig chosen = ChooseRowGemmConfig(workload.Arguments(0), 132);
      std::printf("%5ld rows %-11s cold", static_cast<long>(M), layer.name);
      PrintConfig(chosen, workload.Microseconds(&chosen, true, true) - evict);
      std::printf(";");
      for (const auto& [us, config] : AllTimes(layer, workload, true)) PrintConfig(config, us - evict);
      std::printf("\n");
    }
  }
}

// The weight-stationary form of f32 rows in tiles of some heights beside the chosen one.
TEST(RowGemmBench, StationaryTiles) {
  TING_SKIP_WITHOUT_HOPPER();
  for (const int64_t M : {124, 992, 1984, 2640, 7936, 10304}) {
    for (const Layer& layer : kLayers) {
      if (layer.N > 768 || !layer.norm) continue;
      const Workload workload(layer, M);
      const RowGemmConfig chosen = ChooseRowGemmConfig(workload.Arguments(0), 132);
      std::printf("%5ld rows %-11s chosen", static_cast<long>(M), layer.name);
      PrintConfig(chosen, workload.Microseconds(&chosen, true));
      std::printf(";");
      for (const int rows : {8, 16, 32, 48, 64}) {
        const RowGemmConfig config{4, 64, 4, 1, 1, rows};
        PrintConfig(config, workload.Microseconds(&config, true));
      }
      std::printf("\n");
    }
  }
}

}  // namespace
}  // namespace ting::cuda
