// tests/frontend/sound_files.h
// SPDX-License-Identifier: Apache-2.0
//
// Sound files made in memory, and reading them back, for the tests of the frontend.
#pragma once

#include <gtest/gtest.h>
#include <sndfile.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <span>
#include <vector>

namespace ting::testing {

using Bytes = std::vector<std::byte>;

// `interleaved` in [-1, 1) as a file of libsndfile's `format`.
inline Bytes MakeSoundFile(int format, int sample_rate_hz, int channels, const std::vector<double>& interleaved) {
  struct Memory {
    Bytes bytes;
    sf_count_t at = 0;
  } memory;
  SF_VIRTUAL_IO io = {
      [](void* u) { return sf_count_t(static_cast<Memory*>(u)->bytes.size()); },
      [](sf_count_t offset, int whence, void* u) {
        auto* m = static_cast<Memory*>(u);
        return m->at = offset + (whence == SEEK_SET ? 0 : whence == SEEK_CUR ? m->at : sf_count_t(m->bytes.size()));
      },
      [](void* out, sf_count_t n, void* u) {
        auto* m = static_cast<Memory*>(u);
        n = std::min(n, sf_count_t(m->bytes.size()) - m->at);
        std::memcpy(out, m->bytes.data() + m->at, n);
        m->at += n;
        return n;
      },
      [](const void* in, sf_count_t n, void* u) {
        auto* m = static_cast<Memory*>(u);
        if (m->at + n > sf_count_t(m->bytes.size())) m->bytes.resize(m->at + n);
        std::memcpy(m->bytes.data() + m->at, in, n);
        m->at += n;
        return n;
      },
      [](void* u) { return static_cast<Memory*>(u)->at; }};
  SF_INFO info = {};
  info.format = format;
  info.samplerate = sample_rate_hz;
  info.channels = channels;
  SNDFILE* file = sf_open_virtual(&io, SFM_WRITE, &info, &memory);
  EXPECT_NE(file, nullptr) << sf_strerror(nullptr);
  if (file == nullptr) return {};
  const sf_count_t frames = interleaved.size() / channels;
  if (const int kind = format & SF_FORMAT_SUBMASK; kind >= SF_FORMAT_PCM_S8 && kind <= SF_FORMAT_PCM_U8) {
    std::vector<int> integers;  // doubles would be scaled by 2^n - 1
    for (const double x : interleaved) integers.push_back(int(std::clamp(x * 0x1p31, -0x1p31, 0x1p31 - 1)));
    EXPECT_EQ(sf_writef_int(file, integers.data(), frames), frames);
  } else {
    EXPECT_EQ(sf_writef_double(file, interleaved.data(), frames), frames);
  }
  sf_close(file);
  return memory.bytes;
}

inline std::vector<double> Sine(double hz, double level, int sample_rate_hz, int num_samples) {
  std::vector<double> samples(num_samples);
  for (int i = 0; i < num_samples; ++i) samples[i] = level * std::sin(2 * std::numbers::pi * hz * i / sample_rate_hz);
  return samples;
}

// Amplitude of the `hz` component over the middle half of the samples.
inline double LevelAt(double hz, int sample_rate_hz, std::span<const float> samples) {
  double re = 0, im = 0;
  const size_t first = samples.size() / 4, count = samples.size() / 2;
  for (size_t i = first; i < first + count; ++i) {
    // A Hann window, of mean 1/2, keeps a neighbour's leakage out.
    const double window = 1 - std::cos(2 * std::numbers::pi * (i - first) / count);
    re += window * samples[i] * std::cos(2 * std::numbers::pi * hz * i / sample_rate_hz);
    im += window * samples[i] * std::sin(2 * std::numbers::pi * hz * i / sample_rate_hz);
  }
  return 2 * std::sqrt(re * re + im * im) / count;
}

}  // namespace ting::testing
