// tests/frontend/fbank_core_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of the CUDA filter bank, on emulated lanes: every size of transform, against the CPU's.
#include "frontend/cuda/fbank_core.h"

#include <gtest/gtest.h>

#include "frontend/cuda/fbank_tables_host.h"
#include "tests/frontend/fbank_signals.h"
#include "tests/support/lane_emulator.h"

namespace ting {
namespace {

using cuda_fbank::Complex;
using cuda_fbank::FrameTransform;
using testing::LaneEmulator;

template <int kLength, class Sample>
std::vector<float> Emulate(const cuda_fbank::HostTables& host, const std::vector<Sample>& samples, bool descending) {
  const cuda_fbank::DeviceTables tables = host.view();
  LaneEmulator half_warp(cuda_fbank::kLanes, descending);
  std::vector<Complex> z(cuda_fbank::PaddedPoints(host.points), {NAN, NAN});
  std::vector<float> own_power(host.points, NAN), features;
  // As the kernel has it.
  float* const power = kLength > 0 ? reinterpret_cast<float*>(z.data()) : own_power.data();
  for (size_t first = 0; first + host.frame_length <= samples.size(); first += host.frame_shift) {
    std::vector<float> row(host.num_mel, NAN);
    // Exactly the frame's samples, so that a read beside them is found by a sanitizer.
    const std::vector<Sample> own(samples.begin() + first, samples.begin() + first + host.frame_length);
    half_warp.Run([&](LaneEmulator::Lanes lanes) {
      FrameTransform<LaneEmulator::Lanes, kLength>(lanes, tables, z.data(), power).Run(own.data(), row.data());
    });
    features.insert(features.end(), row.begin(), row.end());
  }
  return features;
}

void ExpectNear(const std::vector<float>& actual, const std::vector<float>& expected, double bound) {
  ASSERT_EQ(actual.size(), expected.size());
  ASSERT_GT(actual.size(), 0U);
  for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], bound) << "element " << i;
}

class FbankCoreTest : public ::testing::TestWithParam<FbankOptions> {};

TEST_P(FbankCoreTest, MatchesTheCpu) {
  const Fbank fbank = Fbank::Create(GetParam()).value();
  const cuda_fbank::HostTables host = cuda_fbank::MakeHostTables(GetParam()).value();
  const int n = host.frame_length + 3 * host.frame_shift;
  for (const auto& [name, signal] : testing::HardSignals(n, 3)) {
    SCOPED_TRACE(name);
    const std::vector<float> as_float(signal.begin(), signal.end());
    const std::vector<float> expected = testing::CpuFeatures(fbank, as_float);
    const std::vector<float> features = Emulate<0>(host, signal, false);
    ExpectNear(features, expected, 1e-5);
    EXPECT_EQ(features, Emulate<0>(host, as_float, true));
    if (host.frame_length != cuda_fbank::kUsualLength) continue;
    const std::vector<float> usual = Emulate<cuda_fbank::kUsualLength>(host, signal, true);
    ExpectNear(usual, expected, 1e-5);
    EXPECT_EQ(usual, Emulate<cuda_fbank::kUsualLength>(host, as_float, false));
  }
  const std::vector<float> tone = testing::PureTone(n);
  ExpectNear(Emulate<0>(host, tone, false), testing::CpuFeatures(fbank, tone), 1e-5);
}

// Transforms of 16, 32, … 1024 points, and frames that fill them to the last sample or have an odd number.
INSTANTIATE_TEST_SUITE_P(Sizes, FbankCoreTest,
                         ::testing::Values(FbankOptions{.sample_rate_hz = 1000, .num_mel_bins = 5},
                                           FbankOptions{
                                               .sample_rate_hz = 1000, .num_mel_bins = 5, .frame_length_ms = 64},
                                           FbankOptions{.sample_rate_hz = 4000, .num_mel_bins = 12},
                                           FbankOptions{.sample_rate_hz = 8000, .num_mel_bins = 40}, FbankOptions{},
                                           FbankOptions{.num_mel_bins = 23, .frame_length_ms = 32},
                                           FbankOptions{.sample_rate_hz = 11025, .frame_shift_ms = 12.5F},
                                           FbankOptions{.sample_rate_hz = 22050, .num_mel_bins = 81},
                                           FbankOptions{.sample_rate_hz = 48000}));

TEST(FbankCoreTest, RefusesLongFrames) {
  EXPECT_TRUE(cuda_fbank::MakeHostTables({.sample_rate_hz = 48000, .frame_length_ms = 42}).ok());
  const auto tables = cuda_fbank::MakeHostTables({.sample_rate_hz = 48000, .frame_length_ms = 43});
  EXPECT_EQ(tables.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(tables.status().message().find("frames of 2064 samples; at most 2048"), std::string::npos);
  EXPECT_FALSE(cuda_fbank::MakeHostTables({.num_mel_bins = 0}).ok());
}

TEST(FbankCoreTest, SamplesThatAreNotFiniteGiveFiniteFeatures) {
  const cuda_fbank::HostTables host = cuda_fbank::MakeHostTables({}).value();
  for (const float bad : {NAN, INFINITY, 1e30F}) {
    std::vector<float> samples(400, 1.0F);
    samples[200] = bad;
    for (const float value : Emulate<cuda_fbank::kUsualLength>(host, samples, false)) {
      EXPECT_TRUE(std::isfinite(value));
    }
  }
}

}  // namespace
}  // namespace ting
