// tests/frontend/feature_buffer_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/feature_buffer.h"

#include <gtest/gtest.h>

#include <random>

namespace ting {
namespace {

std::vector<float> Noise(int num_samples, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> samples(num_samples);
  for (float& sample : samples) sample = float(int16_t(random()));
  return samples;
}

class FeatureBufferTest : public ::testing::TestWithParam<FbankOptions> {};

// Pieces of random size, read at random moments in random amounts.
TEST_P(FeatureBufferTest, GivesTheBitsOfTheWhole) {
  const Fbank fbank = Fbank::Create(GetParam()).value();
  const int bins = fbank.num_mel_bins();
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    const std::vector<float> samples = Noise(fbank.options().sample_rate_hz + random() % 1000, seed);
    const int64_t num_frames = fbank.NumFrames(samples.size());
    std::vector<float> whole(num_frames * bins), pieces;
    fbank.Compute(samples, 0, num_frames, whole.data());
    FeatureBuffer buffer(fbank);
    for (size_t at = 0; at < samples.size();) {
      const size_t count = std::min<size_t>(random() % (seed % 2 == 0 ? 100 : 5000), samples.size() - at);
      buffer.Accept(std::span(samples).subspan(at, count));
      at += count;
      const int64_t wanted = random() % 3 == 0 ? 0 : random() % 40, ready = buffer.NumReady();
      std::vector<float> read(wanted * bins);
      const int64_t got = buffer.Read(wanted, read.data());
      ASSERT_EQ(got, std::min(wanted, ready));
      ASSERT_EQ(buffer.NumReady(), ready - got);
      pieces.insert(pieces.end(), read.begin(), read.begin() + got * bins);
    }
    std::vector<float> rest(buffer.NumReady() * bins);
    buffer.Read(buffer.NumReady(), rest.data());
    pieces.insert(pieces.end(), rest.begin(), rest.end());
    EXPECT_EQ(buffer.num_frames_read(), num_frames);
    EXPECT_EQ(pieces, whole) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Configurations, FeatureBufferTest,
                         ::testing::Values(FbankOptions{}, FbankOptions{.sample_rate_hz = 8000},
                                           // a shift longer than the frame: samples in between are skipped
                                           FbankOptions{.frame_length_ms = 20, .frame_shift_ms = 50}));

TEST(FeatureBufferTest, MemoryDoesNotGrow) {
  FeatureBuffer buffer(Fbank::Create({}).value());
  const std::vector<float> piece = Noise(1600, 1);
  std::vector<float> frames(20 * 80);
  for (int i = 0; i < 1000; ++i) {
    buffer.Accept(piece);
    buffer.Read(20, frames.data());
    ASSERT_LT(buffer.num_buffered_samples(), 400);
  }
  EXPECT_EQ(buffer.num_frames_read(), buffer.fbank().NumFrames(1600000));
}

TEST(FeatureBufferTest, ResetStartsANewSound) {
  FeatureBuffer buffer(Fbank::Create({}).value());
  const std::vector<float> samples = Noise(1000, 2);
  std::vector<float> first(4 * 80), second(4 * 80);
  buffer.Accept(samples);
  ASSERT_EQ(buffer.Read(10, first.data()), 4);
  buffer.Reset();
  EXPECT_EQ(buffer.NumReady(), 0);
  EXPECT_EQ(buffer.num_frames_read(), 0);
  buffer.Accept(samples);
  ASSERT_EQ(buffer.Read(10, second.data()), 4);
  EXPECT_EQ(first, second);
}

}  // namespace
}  // namespace ting
