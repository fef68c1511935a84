// tests/decoders/decoder_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the searches share: CtcFrames that own their arrays, and the golden references as C++ values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "decoders/ctc_frames.h"
#include "tests/support/npz.h"
#include "tests/support/paths.h"

namespace ting::testing {

using TokenList = std::vector<int32_t>;

struct OwnedFrames {
  std::vector<float> logp;
  std::vector<int32_t> ids;
  int32_t num_frames = 0;
  int32_t k = 0;

  CtcFrames view() const { return {logp.data(), ids.data(), num_frames, k}; }
};

// The k best of each row of a [T, V] matrix; equal values: lower id first.
inline OwnedFrames TopK(const std::vector<float>& matrix, int V, int k) {
  OwnedFrames frames;
  frames.num_frames = static_cast<int32_t>(matrix.size()) / V;
  frames.k = k;
  std::vector<int32_t> order(V);
  for (int t = 0; t < frames.num_frames; ++t) {
    const float* row = matrix.data() + int64_t{t} * V;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [row](int a, int b) { return row[a] > row[b]; });
    for (int i = 0; i < k; ++i) {
      frames.ids.push_back(order[i]);
      frames.logp.push_back(row[order[i]]);
    }
  }
  return frames;
}

// Natural log of normalised rows. levels > 0: probabilities before normalisation are 1 … levels, so that ties abound.
inline std::vector<float> RandomMatrix(std::mt19937& random, int T, int V, int levels) {
  std::uniform_real_distribution<float> uniform(0.01F, 1.0F);
  std::vector<float> matrix;
  for (int t = 0; t < T; ++t) {
    std::vector<float> row(V);
    for (float& p : row) p = levels > 0 ? static_cast<float>(1 + random() % levels) : uniform(random);
    const float sum = std::accumulate(row.begin(), row.end(), 0.0F);
    for (const float p : row) matrix.push_back(std::log(p / sum));
  }
  return matrix;
}

// Row i of a padded [N, L] array, its first `length` elements.
inline TokenList GoldenRow(const NpyArray& array, int i, int length) {
  const std::vector<int32_t> all = array.As<int32_t>();
  const int64_t width = array.shape.at(1);
  return TokenList(all.begin() + i * width, all.begin() + i * width + length);
}

// Names R for which the file has `R` + suffix.
inline std::vector<std::string> NamesWith(const Npz& npz, const std::string& suffix) {
  std::vector<std::string> names;
  for (const auto& [name, array] : npz.arrays()) {
    if (name.ends_with(suffix)) names.push_back(name.substr(0, name.size() - suffix.size()));
  }
  return names;
}

}  // namespace ting::testing
