// tests/frontend/feature_compare.h
// SPDX-License-Identifier: Apache-2.0
//
// Compares log-mel features with those of another implementation that computes in f32. The noise of its Fourier
// transform is about FLT_EPSILON of the frame's largest amplitude, so a bin that is e^g below the frame's loudest is
// uncertain by FLT_EPSILON e^(g / 2): more than 1e-3 from e^-18 (-78 dB) on. Torchaudio and kaldi-native-fbank
// differ from the f64 result, and from each other, by up to 1.3e-2 at e^-27.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

namespace ting::testing {

inline void ExpectFeaturesNear(const std::vector<float>& actual, const std::vector<float>& expected, int num_bins) {
  ASSERT_EQ(actual.size(), expected.size());
  ASSERT_GT(expected.size(), 0U);
  for (size_t row = 0; row < expected.size(); row += num_bins) {
    const float loudest = *std::max_element(expected.begin() + row, expected.begin() + row + num_bins);
    for (size_t i = row; i < row + num_bins; ++i) {
      const double noise = FLT_EPSILON * std::exp((loudest - expected[i]) / 2);
      ASSERT_NEAR(actual[i], expected[i], std::max(1e-3, noise)) << "frame " << row / num_bins << " bin " << i - row;
    }
  }
}

}  // namespace ting::testing
