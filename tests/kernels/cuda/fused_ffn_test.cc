// tests/kernels/cuda/fused_ffn_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The fused feed-forward kernel against loops in double, over its cuts, widths and options; what it must not touch is
// poisoned: rows of x beyond the count and all of y with NaN.
#include "kernels/cuda/fused_ffn.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "tests/kernels/cuda/ffn_testing.h"
#include "tests/support/take_case.h"

namespace ting::cuda {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::string Name(const FfnConfig& c) {
  return "rows of a tile " + std::to_string(c.tile_rows) + " split " + std::to_string(c.split) + " sharing " +
         std::to_string(c.sharing);
}

std::vector<FfnConfig> AllConfigs(int64_t F) {
  std::vector<FfnConfig> configs;
  for (int tile_rows : kFfnTileRows) {
    for (int split : {1, 2, 3, 4, 5, 6, 7, 8, 11, 16}) {
      for (int sharing : {1, 2, 4}) {
        const FfnConfig config{tile_rows, split, sharing};
        if (FusedFfn::SupportsConfig(config, F).ok()) configs.push_back(config);
      }
    }
  }
  return configs;
}

// y of the first `rows` rows of x, run with room for `padded`; checks that nothing else is read or written.
std::vector<float> RunRows(const FusedFfn& ffn, const std::vector<float>& x, int64_t rows, int64_t padded,
                           const FfnConfig& config) {
  std::vector<float> padded_x(padded * kWidth, kNan);
  std::copy_n(x.begin(), rows * kWidth, padded_x.begin());
  const std::vector<float> poison((padded + 64) * kWidth, kNan);
  DeviceArray<float> device_x(padded_x), device_y(poison);
  DeviceArray<int32_t> count(std::vector<int32_t>{static_cast<int32_t>(rows)});
  const Status status = ffn.Run(device_x.data(), device_y.data(), padded, rows == padded ? nullptr : count.data(),
                                config, nullptr, false);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << Name(config);
  std::vector<float> y = device_y.Download();
  EXPECT_EQ(std::memcmp(&y[rows * kWidth], &poison[rows * kWidth], (poison.size() - rows * kWidth) * 4), 0)
      << Name(config) << ": wrote beyond " << rows << " rows of " << padded;
  y.resize(rows * kWidth);
  return y;
}

// The worst error as a part of the tolerance, and where.
void Compare(const std::vector<float>& y, const RandomLayer::Expected& expected, const std::string& what) {
  double worst = 0;
  size_t at = 0, bad = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double part = std::abs(y[i] - expected.y[i]) / expected.tolerance[i];
    if (!(part <= 1)) ++bad;
    if (!(part <= worst)) worst = part, at = i;
  }
  if (bad == 0) return;
  ADD_FAILURE() << what << ": " << bad << " of " << y.size() << " differ, most at row " << at / kWidth << " column "
                << at % kWidth << ": " << y[at] << " instead of " << expected.y[at] << " +- " << expected.tolerance[at];
}

FusedFfn MakeFfn(const RandomLayer& layer) {
  Result<FusedFfn> ffn = FusedFfn::Create(layer.weights());
  return std::move(ffn).value();
}

TEST(FusedFfn, EveryCutAndLengthMatchesAndBitsDependOnSplitAlone) {
  TING_SKIP_WITHOUT_HOPPER();
  const RandomLayer layer(LayerCase{}, 100);
  const FusedFfn ffn = MakeFfn(layer);
  const std::vector<float> x = RandomFloats(1984 * kWidth, 2, 7);
  const RandomLayer::Expected expected = layer.Compute(x);
  std::map<int, std::vector<float>> bits;  // by split
  for (const FfnConfig& config : AllConfigs(2048)) {
    for (int64_t rows : {1984, 1, 2, 31, 33, 40, 41, 48, 49, 63, 64, 65, 79, 80, 81, 124, 127, 128, 129, 992}) {
      for (int64_t padding : {0, 70}) {
        if (!TakeCase()) continue;
        const std::vector<float> y = RunRows(ffn, x, rows, rows + padding, config);
        Compare(y, expected, Name(config) + " rows " + std::to_string(rows));
        const auto [first, added] = bits.emplace(config.split, y);
        const size_t common = std::min(first->second.size(), y.size());
        EXPECT_EQ(std::memcmp(first->second.data(), y.data(), common * 4), 0) << Name(config) << " rows " << rows;
        if (HasFatalFailure() || ::testing::Test::HasFailure()) return;
      }
    }
  }
}

// Cuts that a chooser or a record may name.
TEST(FusedFfn, SupportsTheCutsOfTheModel) {
  for (int tile_rows : kFfnTileRows) {
    for (int split = 6; split <= 16; ++split) {
      EXPECT_EQ(FusedFfn::SupportsConfig({tile_rows, split, 1}, 2048).ok(), tile_rows != 80)
          << tile_rows << " " << split;
    }
    EXPECT_EQ(FusedFfn::SupportsConfig({tile_rows, 1, 1}, 2048).ok(), tile_rows >= 80) << tile_rows;
  }
  EXPECT_TRUE(FusedFfn::SupportsConfig({64, 3, 1}, 2048).ok());
  EXPECT_TRUE(FusedFfn::SupportsConfig({128, 1, 4}, 2048).ok());
  EXPECT_TRUE(FusedFfn::SupportsConfig({64, 2, 1}, 2048).ok());
  EXPECT_FALSE(FusedFfn::SupportsConfig({48, 2, 1}, 4096).ok());  // half of the hidden units of 48 rows are too many
  EXPECT_FALSE(FusedFfn::SupportsConfig({64, 8, 2}, 2048).ok());
}

TEST(FusedFfn, ChoosesCutsThatRun) {
  for (int64_t F : {64, 128, 192, 256, 384, 512, 1088, 1152, 2048, 4096, 8192}) {
    for (int64_t rows = 1; rows < 40000; rows += 1 + rows / 7) {
      EXPECT_TRUE(FusedFfn::SupportsConfig(FusedFfn::ChooseConfig(rows, F), F).ok()) << rows << " " << F;
      if (F < 256) continue;
      const FfnConfig halves = FusedFfn::ChooseConfigOfSplit(rows, F, 2);
      EXPECT_EQ(halves.split, 2);
      EXPECT_TRUE(FusedFfn::SupportsConfig(halves, F).ok()) << rows << " " << F;
    }
  }
  // All rows at once, on 132 multiprocessors.
  EXPECT_EQ(FusedFfn::ChooseConfig(66 * 32, 2048).tile_rows, 32);
  EXPECT_EQ(FusedFfn::ChooseConfig(66 * 40, 2048).tile_rows, 40);
  EXPECT_EQ(FusedFfn::ChooseConfig(132 * 64, 2048).tile_rows, 64);
  EXPECT_EQ(FusedFfn::ChooseConfig(132 * 80, 2048).tile_rows, 80);
}

TEST(FusedFfn, TypesActivationsAndOptions) {
  TING_SKIP_WITHOUT_HOPPER();
  const int64_t rows = 130;
  const std::vector<float> x = RandomFloats(rows * kWidth, 2, 8);
  uint32_t seed = 200;
  for (DType type : {DType::kF16, DType::kBF16}) {
    for (Activation activation : {Activation::kSwish, Activation::kRelu, Activation::kGelu}) {
      for (int options = 0; options < 8; ++options) {
        const LayerCase layer_case{type,
                                   activation,
                                   1024,
                                   (options & 1) != 0,
                                   (options & 2) != 0,
                                   options != 5,
                                   (options & 4) == 0 ? 0.5F
                                   : options == 4     ? 0.0F
                                                      : 1.0F};
        const RandomLayer layer(layer_case, seed += 10);
        const FusedFfn ffn = MakeFfn(layer);
        const RandomLayer::Expected expected = layer.Compute(x);
        for (const FfnConfig& config :
             {FfnConfig{32, 8, 1}, FfnConfig{40, 4, 1}, FfnConfig{48, 5, 1}, FfnConfig{64, 2, 1}, FfnConfig{64, 4, 1},
              FfnConfig{80, 1, 1}, FfnConfig{128, 1, 1}, FfnConfig{128, 2, 1}, FfnConfig{128, 2, 2},
              FfnConfig{128, 3, 1}}) {
          if (!TakeCase()) continue;
          Compare(RunRows(ffn, x, rows, rows + 3, config), expected,
                  Name(config) + " activation " + ActivationName(activation) + " options " + std::to_string(options));
        }
      }
    }
  }
}

// 128-row tiles end in other code, in which a norm at the end adds in the same order.
TEST(FusedFfn, BitsAtTheEndDependOnSplitAlone) {
  TING_SKIP_WITHOUT_HOPPER();
  const int64_t rows = 203;
  const std::vector<float> x = RandomFloats(rows * kWidth, 2, 11);
  for (const bool post : {false, true}) {
    for (const float residual : {0.0F, 0.5F}) {
      const RandomLayer layer(LayerCase{.post = post, .residual = residual}, 600);
      const FusedFfn ffn = MakeFfn(layer);
      for (const int split : {1, 2, 3}) {
        const FfnConfig other{split == 1 ? 128 : 32, split, 1};
        if (!TakeCase()) continue;
        const std::vector<float> expected = RunRows(ffn, x, rows, rows + 5, other);
        for (const FfnConfig& config : {FfnConfig{128, split, 1}, FfnConfig{128, split, 2}, FfnConfig{128, split, 4}}) {
          if (!TakeCase()) continue;
          const std::vector<float> y = RunRows(ffn, x, rows, rows + 5, config);
          EXPECT_EQ(std::memcmp(expected.data(), y.data(), y.size() * 4), 0)
              << Name(config) << " norm " << post << " residual " << residual;
        }
      }
    }
  }
}

TEST(FusedFfn, HiddenWidths) {
  TING_SKIP_WITHOUT_HOPPER();
  const std::vector<float> x = RandomFloats(100 * kWidth, 2, 9);
  for (int64_t F : {64, 128, 192, 256, 384, 512, 1024, 1088, 1152, 4096}) {
    const RandomLayer layer(LayerCase{.F = F}, static_cast<uint32_t>(F));
    const FusedFfn ffn = MakeFfn(layer);
    const RandomLayer::Expected expected = layer.Compute(x);
    for (const FfnConfig& config : AllConfigs(F)) {
      if (!TakeCase()) continue;
      Compare(RunRows(ffn, x, 100, 200, config), expected, Name(config) + " F " + std::to_string(F));
    }
  }
}

TEST(FusedFfn, NoRowsWriteNothing) {
  TING_SKIP_WITHOUT_HOPPER();
  const RandomLayer layer(LayerCase{}, 300);
  const FusedFfn ffn = MakeFfn(layer);
  for (const FfnConfig& config : AllConfigs(2048)) {
    if (TakeCase()) RunRows(ffn, {}, 0, 300, config);
  }
}

// A chain of layers, each the input of the next, gives the same bits with and without overlapping launches.
TEST(FusedFfn, DependentLaunchesInAGraph) {
  TING_SKIP_WITHOUT_HOPPER();
  const int64_t rows = 300;
  const RandomLayer layer(LayerCase{.post = true}, 400);
  const FusedFfn ffn = MakeFfn(layer);
  const std::vector<float> x = RandomFloats(rows * kWidth, 2, 10);
  DeviceArray<float> a(x), b(x.size());
  cudaStream_t stream;
  ASSERT_CUDA(cudaStreamCreate(&stream));
  for (const FfnConfig& config : AllConfigs(2048)) {
    if (!TakeCase()) continue;
    std::vector<float> results[2];
    for (bool dependent : {false, true}) {
      cudaGraph_t graph;
      cudaGraphExec_t exec;
      ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
      for (int i = 0; i < 8; ++i) {
        const Status status = ffn.Run((i % 2 == 0 ? a : b).data(), (i % 2 == 0 ? b : a).data(), rows, nullptr, config,
                                      stream, dependent && i > 0);
        ASSERT_TRUE(status.ok()) << status.message();
      }
      ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
      ASSERT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
      a.Upload(x);
      for (int i = 0; i < 3; ++i) ASSERT_CUDA(cudaGraphLaunch(exec, stream));
      ASSERT_CUDA(cudaStreamSynchronize(stream));
      results[dependent] = a.Download();
      cudaGraphExecDestroy(exec);
      cudaGraphDestroy(graph);
    }
    EXPECT_EQ(std::memcmp(results[0].data(), results[1].data(), results[0].size() * 4), 0) << Name(config);
    EXPECT_TRUE(std::isfinite(results[0][0]));
  }
  cudaStreamDestroy(stream);
}

TEST(FusedFfn, RefusesWhatItCannot) {
  FusedFfnWeights weights;
  weights.D = 512, weights.F = 2048;
  EXPECT_NE(FusedFfn::Supports(weights).message().find("512"), std::string::npos);
  weights.D = 256, weights.F = 100;
  EXPECT_NE(FusedFfn::Supports(weights).message().find("100"), std::string::npos);
  weights.F = 2048, weights.activation = Activation::kNone;
  EXPECT_NE(FusedFfn::Supports(weights).message().find("activation"), std::string::npos);
  weights.activation = Activation::kSwish, weights.type = DType::kF32;
  EXPECT_NE(FusedFfn::Supports(weights).message().find("f32"), std::string::npos);
  TING_SKIP_WITHOUT_HOPPER();
  const RandomLayer layer(LayerCase{.F = 64}, 500);
  const FusedFfn ffn = MakeFfn(layer);
  DeviceArray<float> x(kWidth), y(kWidth);
  EXPECT_FALSE(ffn.Run(x.data(), y.data(), 1, nullptr, FfnConfig{64, 1, 1}, nullptr, false).ok());
  EXPECT_FALSE(ffn.Run(x.data(), y.data(), 1, nullptr, FfnConfig{128, 2, 1}, nullptr, false).ok());
  EXPECT_FALSE(ffn.Run(x.data(), y.data(), 1, nullptr, FfnConfig{32, 1, 1}, nullptr, false).ok());
  EXPECT_FALSE(ffn.Run(x.data(), y.data(), 1, nullptr, FfnConfig{96, 1, 1}, nullptr, false).ok());
  EXPECT_FALSE(ffn.Run(x.data(), x.data(), 1, nullptr, FfnConfig{128, 1, 1}, nullptr, false).ok());
}

}  // namespace
}  // namespace ting::cuda
