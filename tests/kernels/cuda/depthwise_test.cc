// tests/kernels/cuda/depthwise_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The depthwise convolution against double loops over the same rounded rows, and its promise that a row's bits depend
// on its sequence alone.
#include "tests/kernels/cuda/row_convolution_testing.h"

namespace ting::cuda {
namespace {

constexpr int kWindows[] = {0, 4, 8, 16};

template <typename T>
void CheckAgainstLoops(const ConvolutionCase& made, int window) {
  const Convolution<T> convolution(made);
  const std::vector<T> y = convolution.Run(window);
  for (int64_t row = 0; row < made.rows(); ++row) {
    const std::vector<double> expected = convolution.Expected(row);
    for (int64_t d = 0; d < made.D; ++d) {
      const double bound = RoundingError<T>() * std::abs(expected[d]) + 1e-5;
      ASSERT_NEAR(HostDouble(y[row * made.D + d]), expected[d], bound)
          << "row " << row << " channel " << d << " window " << window << ", D " << made.D << ", taps " << made.taps;
    }
  }
}

std::vector<ConvolutionCase> Cases() {
  const std::vector<int> mixed = {1, 2, 7, 8, 14, 15, 16, 63, 64, 65, 200, 1, 1, 3};
  const std::vector<int> gaps = {0, 5, 0, 0, 31, 0};
  std::vector<ConvolutionCase> cases;
  for (const std::vector<int>& lengths : {std::vector<int>{1}, {8}, {124}, mixed, gaps, std::vector<int>(300, 2)}) {
    cases.push_back({lengths, 256, 15});
    cases.push_back({lengths, 256, 8, true});
    cases.push_back({lengths, 256, 15, true, true});
    cases.push_back({lengths, 512, 15, false, true});
    cases.push_back({lengths, 256, 7, false, false, false, Activation::kNone});
  }
  cases.push_back({mixed, 36, 31, true, true});
  cases.push_back({mixed, 256, 15, false, false, true});
  cases.push_back({{9, 1}, 33, 3});
  return cases;
}

template <typename T>
class DepthwiseTest : public ::testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_GPU(); }
};
using Storages = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(DepthwiseTest, Storages);

TYPED_TEST(DepthwiseTest, AgreesWithLoops) {
  for (const ConvolutionCase& made : Cases()) {
    for (const int window : kWindows) {
      CheckAgainstLoops<TypeParam>(made, window);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// A sequence alone, and behind others that move it to every place in a block.
TYPED_TEST(DepthwiseTest, BitsDependOnTheSequenceAlone) {
  for (const bool norm : {false, true}) {
    const ConvolutionCase alone{{40}, 256, 15, norm, norm};
    const std::vector<float> rows = RandomFloats(40 * 256, 1, 9);
    const std::vector<TypeParam> expected = Convolution<TypeParam>(alone, rows).Run(8);
    for (const int before : {1, 2, 3, 5, 8, 15, 16, 17}) {
      ConvolutionCase made = alone;
      made.lengths = {before, 40, 3};
      std::vector<float> all = RandomFloats(made.rows() * 256, 1, 10);
      std::copy(rows.begin(), rows.end(), all.begin() + before * 256);
      for (const int window : {4, 8, 16}) {
        const std::vector<TypeParam> y = Convolution<TypeParam>(made, all).Run(window);
        EXPECT_EQ(memcmp(&y[before * 256], expected.data(), expected.size() * sizeof(TypeParam)), 0)
            << before << " rows before, window " << window << ", norm " << norm;
      }
    }
  }
}

}  // namespace
}  // namespace ting::cuda
