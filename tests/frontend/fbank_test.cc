// tests/frontend/fbank_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/fbank.h"

#include <gmock/gmock.h>

#include <cfloat>
#include <cmath>
#include <numbers>
#include <random>
#include <thread>
#include <tuple>

#include "tests/frontend/feature_compare.h"
#include "tests/support/npz.h"
#include "tests/support/paths.h"

namespace ting {
namespace {

using ::testing::HasSubstr;

Fbank MakeFbank(const FbankOptions& options = {}) { return Fbank::Create(options).value(); }

std::vector<float> AllFrames(const Fbank& fbank, const std::vector<float>& samples) {
  const int64_t num_frames = fbank.NumFrames(samples.size());
  std::vector<float> features(num_frames * fbank.num_mel_bins());
  fbank.Compute(samples, 0, num_frames, features.data());
  return features;
}

std::vector<float> Noise(int num_samples, float level, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> samples(num_samples);
  for (float& sample : samples) {
    sample = std::round((random() / 4294967296.0F * 2.0F - 1.0F) * level);
  }
  return samples;
}

// The definition, in double, with a plain Fourier sum.
std::vector<double> Definition(const FbankOptions& o, const std::vector<float>& samples, int frame) {
  const int length = o.sample_rate_hz * o.frame_length_ms / 1000.0;
  const int shift = o.sample_rate_hz * o.frame_shift_ms / 1000.0;
  int fft = 1;
  while (fft < length) fft *= 2;
  std::vector<double> x(samples.begin() + frame * shift, samples.begin() + frame * shift + length), y(length);
  double mean = 0;
  for (const double v : x) mean += v / length;
  for (double& v : x) v -= mean;
  for (int j = 0; j < length; ++j) {
    const double window = std::pow(0.5 - 0.5 * std::cos(2 * std::numbers::pi * j / (length - 1)), 0.85);
    y[j] = (x[j] - 0.97 * x[std::max(j - 1, 0)]) * window;
  }
  const auto mel = [](double hz) { return 1127 * std::log(1 + hz / 700); };
  const double low = mel(20), delta = (mel(o.sample_rate_hz / 2.0) - low) / (o.num_mel_bins + 1);
  std::vector<double> energies(o.num_mel_bins);
  for (int k = 0; k < fft / 2; ++k) {
    double re = 0, im = 0;
    for (int j = 0; j < length; ++j) {
      re += y[j] * std::cos(2 * std::numbers::pi * j * k / fft);
      im -= y[j] * std::sin(2 * std::numbers::pi * j * k / fft);
    }
    const double at = (mel(double(o.sample_rate_hz) * k / fft) - low) / delta;
    for (int m = 0; m < o.num_mel_bins; ++m) {
      energies[m] += std::max(0.0, 1 - std::abs(at - (m + 1))) * (re * re + im * im);
    }
  }
  for (double& e : energies) e = std::log(std::max(e, double(FLT_EPSILON)));
  return energies;
}

class FbankDefinitionTest : public ::testing::TestWithParam<std::tuple<FbankOptions, int>> {};

// All but the logarithm is in f64: what remains is one rounding of a value below 32 (1e-6) and of the energy.
TEST_P(FbankDefinitionTest, MatchesTheFourierSumInDouble) {
  const auto& [options, lanes] = GetParam();
  const Fbank fbank = Fbank::CreateWithLanes(options, lanes).value();
  if (fbank.lanes() != lanes) GTEST_SKIP() << "this CPU has no code for " << lanes << " frames at once";
  const std::vector<float> samples = Noise(options.sample_rate_hz / 2, 12000, 7);
  const std::vector<float> features = AllFrames(fbank, samples);
  ASSERT_GT(features.size(), 0U);
  const int64_t num_frames = fbank.NumFrames(samples.size());
  for (int64_t frame = 0; frame < num_frames; frame += 5) {
    const std::vector<double> expected = Definition(options, samples, frame);
    for (int m = 0; m < options.num_mel_bins; ++m) {
      ASSERT_NEAR(features[frame * options.num_mel_bins + m], expected[m], 3e-6) << "frame " << frame << " bin " << m;
    }
  }
}

// 16 kHz: 512 points, no last stage of radix 2 (256 = 4^4); 8 kHz: one (128 = 2 * 4^3); numbers of bins and frame
// lengths that are no multiple of the vector.
INSTANTIATE_TEST_SUITE_P(
    Configurations, FbankDefinitionTest,
    ::testing::Combine(::testing::Values(FbankOptions{}, FbankOptions{.sample_rate_hz = 8000},
                                         FbankOptions{.num_mel_bins = 40}, FbankOptions{.num_mel_bins = 23},
                                         FbankOptions{.sample_rate_hz = 8000, .num_mel_bins = 1},
                                         FbankOptions{.sample_rate_hz = 11025, .frame_shift_ms = 12.5F},
                                         FbankOptions{.sample_rate_hz = 48000, .num_mel_bins = 81}),
                       ::testing::Values(2, 4, 8)));

TEST(FbankTest, SamplesThatAreNotFiniteDoNotSpread) {
  const Fbank fbank = MakeFbank();
  std::vector<float> samples = Noise(8000, 3000, 3);
  const std::vector<float> clean = AllFrames(fbank, samples);
  samples[4000] = NAN;
  samples[4001] = INFINITY;
  const std::vector<float> features = AllFrames(fbank, samples);
  for (int frame = 0; frame < 48; ++frame) {
    const bool touched = frame * 160 <= 4001 && 4000 < frame * 160 + 400;
    for (int i = frame * 80; i < (frame + 1) * 80; ++i) {
      ASSERT_TRUE(std::isfinite(features[i]));
      ASSERT_TRUE(touched || features[i] == clean[i]) << "frame " << frame;
    }
  }
}

TEST(FbankTest, CountsWholeFrames) {
  const Fbank fbank = MakeFbank();
  EXPECT_EQ(fbank.frame_length_samples(), 400);
  EXPECT_EQ(fbank.frame_shift_samples(), 160);
  const std::vector<std::pair<int64_t, int64_t>> expected = {{-1, 0},  {0, 0},   {399, 0},    {400, 1},
                                                             {559, 1}, {560, 2}, {80000, 498}};
  for (const auto& [samples, frames] : expected) EXPECT_EQ(fbank.NumFrames(samples), frames) << samples;
}

TEST(FbankTest, SilenceIsTheFloor) {
  const std::vector<float> features = AllFrames(MakeFbank(), std::vector<float>(4000, 123.0F));
  for (const float value : features) ASSERT_FLOAT_EQ(value, std::log(FLT_EPSILON));
}

TEST(FbankTest, AnyRangeOfFramesHasTheSameBits) {
  const Fbank fbank = MakeFbank();
  const std::vector<float> samples = Noise(16000, 3000, 11);
  const std::vector<float> whole = AllFrames(fbank, samples);
  std::vector<float> piece(98 * 80);
  for (const int first : {0, 1, 7, 15, 16, 60, 97}) {
    for (int count = 1; first + count <= 98; count += 1 + count / 2) {
      fbank.Compute(samples, first, count, piece.data());
      for (int i = 0; i < count * 80; ++i) ASSERT_EQ(piece[i], whole[first * 80 + i]) << first << "+" << count;
    }
  }
}

TEST(FbankTest, WritesNothingBeyondItsFrames) {
  const Fbank fbank = MakeFbank({.num_mel_bins = 23});
  const std::vector<float> samples = Noise(400 + 16 * 160, 3000, 5);
  std::vector<float> out(17 * 23 + 64, -7.0F);
  fbank.Compute(samples, 0, 17, out.data());
  for (size_t i = 17 * 23; i < out.size(); ++i) ASSERT_EQ(out[i], -7.0F);
}

TEST(FbankTest, ThreadsShareOneObject) {
  const Fbank fbank = MakeFbank();
  const std::vector<float> samples = Noise(16000, 3000, 12);
  const std::vector<float> expected = AllFrames(fbank, samples);
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) threads.emplace_back([&] { result = AllFrames(fbank, samples); });
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(FbankTest, RefusesImpossibleOptions) {
  const auto message = [](const FbankOptions& options) { return Fbank::Create(options).status().message(); };
  EXPECT_THAT(message({.sample_rate_hz = 0}), HasSubstr("sample rate is 0 Hz"));
  EXPECT_THAT(message({.num_mel_bins = 0}), HasSubstr("num_mel_bins is 0"));
  EXPECT_THAT(message({.num_mel_bins = 1024}), HasSubstr("too many"));
  EXPECT_THAT(message({.frame_length_ms = NAN}), HasSubstr("both must be above 0"));
  EXPECT_THAT(message({.frame_shift_ms = -10}), HasSubstr("both must be above 0"));
  EXPECT_THAT(message({.frame_length_ms = 1}), HasSubstr("16 every 160 samples"));
}

// Every recording of a golden file that carries its samples.
void CompareWithGolden(const std::string& path, const FbankOptions& options, int min_recordings) {
  const auto golden = testing::Npz::Load(path);
  const Fbank fbank = MakeFbank(options);
  int compared = 0;
  for (const auto& [name, array] : golden.arrays()) {
    if (!name.ends_with(".samples")) continue;
    const std::string recording = name.substr(0, name.size() - 8);
    SCOPED_TRACE(recording);
    testing::ExpectFeaturesNear(AllFrames(fbank, array.As<float>()), golden[recording + ".fbank"].As<float>(),
                                fbank.num_mel_bins());
    ++compared;
  }
  EXPECT_GE(compared, min_recordings);
}

TEST(FbankTest, MatchesTorchaudio) {
  CompareWithGolden(testing::SourcePath("tests/golden/shipped/features.npz"), {}, 6);
}

TEST(FbankTest, MatchesTorchaudioOnSharedClips) {
  TING_REQUIRE_SHARED();
  CompareWithGolden(testing::SharedPath("golden/tiny/features.npz"), {}, 4);
}

TEST(FbankTest, MatchesKaldiNativeFbank) {
  CompareWithGolden(testing::SourcePath("tests/golden/fbank/knf_16k_80.npz"), {}, 4);
  CompareWithGolden(testing::SourcePath("tests/golden/fbank/knf_8k_40.npz"),
                    {.sample_rate_hz = 8000, .num_mel_bins = 40}, 4);
  CompareWithGolden(testing::SourcePath("tests/golden/fbank/knf_16k_23_20ms.npz"),
                    {.num_mel_bins = 23, .frame_length_ms = 20, .frame_shift_ms = 12.5F}, 4);
}

}  // namespace
}  // namespace ting
