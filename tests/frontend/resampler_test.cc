// tests/frontend/resampler_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/resampler.h"

#include <gmock/gmock.h>

#include <random>

#include "tests/frontend/sound_files.h"

namespace ting {
namespace {

using testing::LevelAt;
using testing::Sine;

std::vector<float> Resample(int from_hz, int to_hz, const std::vector<float>& samples, size_t piece) {
  Resampler resampler = Resampler::Create(from_hz, to_hz).value();
  std::vector<float> out;
  for (size_t at = 0; at < samples.size(); at += piece) {
    const auto rest = std::span(samples).subspan(at);
    EXPECT_TRUE(resampler.Process(rest.first(std::min(piece, rest.size())), &out).ok());
  }
  EXPECT_TRUE(resampler.Flush(&out).ok());
  return out;
}

std::vector<float> Floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

class ResamplerTest : public ::testing::TestWithParam<int> {};

TEST_P(ResamplerTest, KeepsLengthPhaseAndLevelOfASine) {
  const int rate = GetParam();
  for (const double hz : {100.0, 1000.0, 3300.0}) {
    const std::vector<float> out = Resample(rate, 16000, Floats(Sine(hz, 10000, rate, 2 * rate)), 4096);
    EXPECT_NEAR(double(out.size()), 32000, 1) << rate;
    EXPECT_NEAR(LevelAt(hz, 16000, out), 10000, 1) << rate << " " << hz;
    const std::vector<double> expected = Sine(hz, 10000, 16000, 32000);
    for (int i = 8000; i < 24000; ++i) ASSERT_NEAR(out[i], expected[i], 1.0) << rate << " " << hz << " at " << i;
  }
}

TEST_P(ResamplerTest, PiecesDoNotMatter) {
  std::mt19937 random(9);
  std::vector<float> samples(GetParam() / 2);
  for (float& sample : samples) sample = float(int16_t(random()));
  const std::vector<float> whole = Resample(GetParam(), 16000, samples, samples.size());
  EXPECT_EQ(Resample(GetParam(), 16000, samples, 333), whole);
}

INSTANTIATE_TEST_SUITE_P(Rates, ResamplerTest, ::testing::Values(8000, 11025, 16000, 22050, 44100, 48000, 96000));

TEST(ResamplerTest, RemovesWhatTheLowerRateCannotHold) {
  const std::vector<float> out = Resample(48000, 16000, Floats(Sine(10000, 10000, 48000, 48000)), 48000);
  for (size_t i = 4000; i < 12000; ++i) ASSERT_NEAR(out[i], 0, 0.1);
}

TEST(ResamplerTest, RefusesImpossibleRates) {
  for (const auto& [from, to] : {std::pair{0, 16000}, {16000, 0}, {999, 999}, {16000, 768001}, {-8000, 16000}}) {
    const auto resampler = Resampler::Create(from, to);
    ASSERT_FALSE(resampler.ok());
    EXPECT_THAT(resampler.status().message(), ::testing::HasSubstr("both rates must be 1000 to 768000"));
  }
}

}  // namespace
}  // namespace ting
