// tests/frontend/fbank_signals.h
// SPDX-License-Identifier: Apache-2.0
//
// Sounds that are hard on a filter bank, as int16 values, and the CPU's features of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "frontend/fbank.h"

namespace ting::testing {

using Signal = std::vector<int16_t>;

// Noise loud and quiet, tones that leave most bins to their rounding, constants, silence, the largest steps.
inline std::vector<std::pair<std::string, Signal>> HardSignals(int n, uint32_t seed) {
  std::mt19937 random(seed);
  const auto noise = [&random](double level) {
    return static_cast<int16_t>(std::lround((random() / 4294967295.0 * 2 - 1) * level));
  };
  std::vector<std::pair<std::string, Signal>> signals{{"noise", {}},     {"quiet noise", {}}, {"tone", {}},
                                                      {"two tones", {}}, {"constant", {}},    {"silence", {}},
                                                      {"steps", {}}};
  for (int i = 0; i < n; ++i) {
    const double phase = 2 * std::numbers::pi * i;
    const double tone = 30000 * std::sin(phase * 0.0371);
    const int16_t values[] = {noise(20000),
                              noise(2),
                              static_cast<int16_t>(std::lround(tone)),
                              static_cast<int16_t>(std::lround(tone / 2 + 12000 * std::sin(phase * 0.4))),
                              -12345,
                              0,
                              static_cast<int16_t>(i / 37 % 2 == 0 ? 32767 : -32768)};
    for (size_t s = 0; s < signals.size(); ++s) signals[s].second.push_back(values[s]);
  }
  return signals;
}

// The same without a fraction that int16 would take away: what the resampler gives.
inline std::vector<float> PureTone(int n) {
  std::vector<float> samples(n);
  for (int i = 0; i < n; ++i) samples[i] = static_cast<float>(25000 * std::sin(2 * std::numbers::pi * i * 0.0625));
  return samples;
}

inline std::vector<float> CpuFeatures(const Fbank& fbank, const std::vector<float>& samples) {
  const int64_t frames = fbank.NumFrames(static_cast<int64_t>(samples.size()));
  std::vector<float> features(frames * fbank.num_mel_bins());
  fbank.Compute(samples, 0, frames, features.data());
  return features;
}

}  // namespace ting::testing
