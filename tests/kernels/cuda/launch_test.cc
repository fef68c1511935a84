// tests/kernels/cuda/launch_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/launch.h"

#include <gtest/gtest.h>

namespace ting::cuda {
namespace {

dim3 Together(unsigned x, unsigned y) {
  LaunchShape shape;
  shape.grid = dim3(x, y), shape.together = true;
  return ClusterOf(shape);
}

TEST(ClusterOf, ThatOfTheKernelGoesFirst) {
  LaunchShape shape;
  shape.grid = dim3(32, 2);
  EXPECT_EQ(ClusterOf(shape).x, 1U);
  shape.cluster = 16, shape.together = true;
  EXPECT_EQ(ClusterOf(shape).x, 16U);
  EXPECT_EQ(ClusterOf(shape).y, 1U);
}

// Clusters divide the grid, have eight blocks at most, and eight wherever the grid lets them.
TEST(ClusterOf, TogetherDividesEveryGrid) {
  for (unsigned x = 1; x <= 40; ++x) {
    for (unsigned y = 1; y <= 40; ++y) {
      const dim3 cluster = Together(x, y);
      EXPECT_EQ(x % cluster.x, 0U) << x << " x " << y;
      EXPECT_EQ(y % cluster.y, 0U) << x << " x " << y;
      EXPECT_LE(cluster.x * cluster.y, 8U) << x << " x " << y;
    }
  }
  EXPECT_EQ(Together(2, 8).y, 8U);
  EXPECT_EQ(Together(32, 1).x, 8U);
  EXPECT_EQ(Together(4, 6).x * Together(4, 6).y, 6U);
  EXPECT_EQ(Together(4, 2).x * Together(4, 2).y, 8U);
}

TEST(CheckHalf, NamesTheTypeThatItRefuses) {
  EXPECT_TRUE(CheckHalf(DType::kF16, "row_gemm").ok());
  EXPECT_TRUE(CheckHalf(DType::kBF16, "row_gemm").ok());
  EXPECT_EQ(CheckHalf(DType::kF32, "row_gemm").message(), "row_gemm: computes in f16 and bf16, not in f32");
}

}  // namespace
}  // namespace ting::cuda
