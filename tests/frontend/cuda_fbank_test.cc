// tests/frontend/cuda_fbank_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The kernel against the CPU's filter bank, and its promise that a frame has the same bits in any batch.
#include <gtest/gtest.h>

#include "frontend/cuda/fbank.h"
#include "tests/frontend/fbank_signals.h"
#include "tests/support/gpu_test.h"

namespace ting {
namespace {

using cuda::DeviceArray;

template <class Sample>
struct Batch {
  explicit Batch(const Fbank& f) : fbank(f) {}
  void Append(const std::vector<Sample>& sound) {
    samples.insert(samples.end(), sound.begin(), sound.end());
    sample_offsets.push_back(static_cast<int64_t>(samples.size()));
    frame_offsets.push_back(frame_offsets.back() + static_cast<int32_t>(fbank.NumFrames(sound.size())));
  }
  int num_frames() const { return frame_offsets.back(); }

  const Fbank& fbank;
  std::vector<Sample> samples;
  std::vector<int64_t> sample_offsets{0};
  std::vector<int32_t> frame_offsets{0};
};

// `extra` empty sequences and frames of room behind the batch, which must stay untouched.
template <class Sample>
std::vector<float> Compute(const CudaFbank& cuda, Batch<Sample> batch, int extra = 0) {
  batch.sample_offsets.insert(batch.sample_offsets.end(), extra, batch.sample_offsets.back());
  batch.frame_offsets.insert(batch.frame_offsets.end(), extra, batch.frame_offsets.back());
  DeviceArray<Sample> samples(batch.samples);
  DeviceArray<int64_t> sample_offsets(batch.sample_offsets);
  DeviceArray<int32_t> frame_offsets(batch.frame_offsets);
  DeviceArray<float> features(int64_t{batch.num_frames()} * batch.fbank.num_mel_bins());
  const Status status = cuda.Compute(samples.data(), sample_offsets.data(), frame_offsets.data(),
                                     static_cast<int>(batch.frame_offsets.size()) - 1, batch.num_frames() + extra,
                                     features.data(), nullptr);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  return features.Download();
}

void ExpectNear(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 1e-5) << "element " << i;
}

std::vector<float> AsFloat(const testing::Signal& signal) { return {signal.begin(), signal.end()}; }

class CudaFbankTest : public ::testing::TestWithParam<FbankOptions> {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_GPU(); }
};

TEST_P(CudaFbankTest, MatchesTheCpu) {
  const Fbank fbank = Fbank::Create(GetParam()).value();
  const CudaFbank cuda = CudaFbank::Create(GetParam()).value();
  const int n = GetParam().sample_rate_hz / 2 + 1;
  for (const auto& [name, signal] : testing::HardSignals(n, 5)) {
    SCOPED_TRACE(name);
    const std::vector<float> expected = testing::CpuFeatures(fbank, AsFloat(signal));
    Batch<int16_t> as_int16(fbank);
    as_int16.Append(signal);
    const std::vector<float> features = Compute(cuda, as_int16);
    ExpectNear(features, expected);
    Batch<float> as_float(fbank);
    as_float.Append(AsFloat(signal));
    EXPECT_EQ(Compute(cuda, as_float), features);
  }
  Batch<float> tone(fbank);
  tone.Append(testing::PureTone(n));
  ExpectNear(Compute(cuda, tone), testing::CpuFeatures(fbank, tone.samples));
}

INSTANTIATE_TEST_SUITE_P(Sizes, CudaFbankTest,
                         ::testing::Values(FbankOptions{.sample_rate_hz = 1000, .num_mel_bins = 5},
                                           FbankOptions{.sample_rate_hz = 4000, .num_mel_bins = 12},
                                           FbankOptions{.sample_rate_hz = 8000, .num_mel_bins = 40}, FbankOptions{},
                                           FbankOptions{.num_mel_bins = 23, .frame_length_ms = 32},
                                           FbankOptions{.sample_rate_hz = 22050, .num_mel_bins = 81},
                                           FbankOptions{.sample_rate_hz = 48000}));

class CudaFbankBatchTest : public CudaFbankTest {};
INSTANTIATE_TEST_SUITE_P(Default, CudaFbankBatchTest, ::testing::Values(FbankOptions{}));

// Every sequence's features in the batch are those that it has alone, and what the CPU computes.
template <class Sample>
void ExpectSameBitsAlone(const std::vector<int>& lengths) {
  const Fbank fbank = Fbank::Create({}).value();
  const CudaFbank cuda = CudaFbank::Create({}).value();
  Batch<Sample> together(fbank);
  std::vector<std::vector<Sample>> sounds;
  for (const int n : lengths) {
    const testing::Signal signal = testing::HardSignals(n, 11 + n)[0].second;
    sounds.emplace_back(signal.begin(), signal.end());
    together.Append(sounds.back());
  }
  const std::vector<float> all = Compute(cuda, together, 5);
  for (size_t b = 0; b < sounds.size(); ++b) {
    Batch<Sample> alone(fbank);
    alone.Append(sounds[b]);
    const std::vector<float> features = Compute(cuda, alone);
    const std::vector<float> part(all.begin() + together.frame_offsets[b] * int64_t{80},
                                  all.begin() + together.frame_offsets[b + 1] * int64_t{80});
    EXPECT_EQ(features, part) << "sequence " << b;
    ExpectNear(features, testing::CpuFeatures(fbank, {sounds[b].begin(), sounds[b].end()}));
  }
}

// Odd lengths put later sequences on odd addresses; some have no whole frame, some no sample.
TEST_P(CudaFbankBatchTest, AnyBatchHasTheSameBits) {
  const std::vector<int> lengths{1601, 0, 399, 400, 8003, 559, 560, 1, 0, 31999};
  ExpectSameBitsAlone<int16_t>(lengths);
  ExpectSameBitsAlone<float>(lengths);
}

TEST_P(CudaFbankBatchTest, ManySequencesAreTold) {
  std::vector<int> lengths;
  for (int b = 0; b < 300; ++b) lengths.push_back(b % 7 == 0 ? 0 : 400 + 161 * (b % 5));
  ExpectSameBitsAlone<float>(lengths);
}

TEST_P(CudaFbankBatchTest, NothingToDoIsFine) {
  const Fbank fbank = Fbank::Create(GetParam()).value();
  const CudaFbank cuda = CudaFbank::Create(GetParam()).value();
  EXPECT_TRUE(Compute(cuda, Batch<int16_t>(fbank)).empty());
  EXPECT_TRUE(Compute(cuda, Batch<float>(fbank), 3).empty());
}

// Prints what `num_sounds` x 5 s take.
template <class Sample>
void PrintTime(int num_sounds, const char* type) {
  const Fbank fbank = Fbank::Create({}).value();
  const CudaFbank cuda = CudaFbank::Create({}).value();
  const testing::Signal signal = testing::HardSignals(80000, 1)[0].second;
  Batch<Sample> batch(fbank);
  for (int b = 0; b < num_sounds; ++b) batch.Append({signal.begin(), signal.end()});
  DeviceArray<Sample> samples(batch.samples);
  DeviceArray<int64_t> sample_offsets(batch.sample_offsets);
  DeviceArray<int32_t> frame_offsets(batch.frame_offsets);
  DeviceArray<float> features(int64_t{batch.num_frames()} * 80);
  cudaEvent_t begin, end;
  ASSERT_CUDA(cudaEventCreate(&begin));
  ASSERT_CUDA(cudaEventCreate(&end));
  float best = INFINITY;
  for (int i = 0; i < 20; ++i) {
    float ms = 0;
    ASSERT_CUDA(cudaEventRecord(begin, nullptr));
    EXPECT_TRUE(cuda.Compute(samples.data(), sample_offsets.data(), frame_offsets.data(), num_sounds,
                             batch.num_frames(), features.data(), nullptr)
                    .ok());
    ASSERT_CUDA(cudaEventRecord(end, nullptr));
    ASSERT_CUDA(cudaEventSynchronize(end));
    ASSERT_CUDA(cudaEventElapsedTime(&ms, begin, end));
    best = std::min(best, ms);
  }
  std::printf("%d x 5 s of %s: %.1f us\n", num_sounds, type, best * 1e3);
  ASSERT_CUDA(cudaEventDestroy(begin));
  ASSERT_CUDA(cudaEventDestroy(end));
}

// Not a test of speed: for whoever runs this on a GPU.
TEST_P(CudaFbankBatchTest, PrintsItsTime) {
  for (const int num_sounds : {1, 67}) {
    PrintTime<int16_t>(num_sounds, "int16");
    PrintTime<float>(num_sounds, "f32");
  }
}

}  // namespace
}  // namespace ting
