// bench/frontend_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// Features of 5 s of sound on one core: ours, and the same definition with a library FFT (kissfft, f32), one frame
// at a time with plain loops around it, which is what most recognisers do. Resampling beside them.
#include <benchmark/benchmark.h>
#include <kiss_fftr.h>

#include <cfloat>
#include <cmath>
#include <numbers>
#include <random>

#include "frontend/fbank.h"
#include "frontend/resampler.h"

namespace ting {
namespace {

constexpr int kRate = 16000, kLength = 400, kShift = 160, kFft = 512, kMel = 80;

std::vector<float> Noise(int num_samples) {
  std::mt19937 random(1);
  std::vector<float> samples(num_samples);
  for (float& sample : samples) sample = float(int16_t(random()));
  return samples;
}

class LibraryFbank {
 public:
  LibraryFbank() : fft_(kiss_fftr_alloc(kFft, 0, nullptr, nullptr)) {
    for (int j = 0; j < kLength; ++j) {
      window_[j] = std::pow(0.5F - 0.5F * std::cos(2 * std::numbers::pi_v<float> * j / (kLength - 1)), 0.85F);
    }
    const auto mel = [](float hz) { return 1127.0F * std::log(1.0F + hz / 700.0F); };
    const float low = mel(20), delta = (mel(kRate / 2.0F) - low) / (kMel + 1);
    for (int m = 0; m < kMel; ++m) {
      for (int k = 0; k < kFft / 2; ++k) {
        const float weight = 1.0F - std::abs((mel(float(kRate) / kFft * k) - low) / delta - float(m + 1));
        if (weight > 0 && weights_[m].empty()) start_[m] = k;
        if (weight > 0) weights_[m].push_back(weight);
      }
    }
  }
  ~LibraryFbank() { kiss_fftr_free(fft_); }

  void Compute(const std::vector<float>& samples, int num_frames, float* out) {
    for (int frame = 0; frame < num_frames; ++frame) ComputeFrame(samples.data() + frame * kShift, out + frame * kMel);
  }

 private:
  void ComputeFrame(const float* x, float* out) {
    float mean = 0, frame[kFft] = {}, power[kFft / 2];
    for (int j = 0; j < kLength; ++j) mean += x[j];
    mean /= kLength;
    for (int j = 0; j < kLength; ++j) frame[j] = (x[j] - mean - 0.97F * (x[j > 0 ? j - 1 : 0] - mean)) * window_[j];
    kiss_fft_cpx spectrum[kFft / 2 + 1];
    kiss_fftr(fft_, frame, spectrum);
    for (int k = 0; k < kFft / 2; ++k) power[k] = spectrum[k].r * spectrum[k].r + spectrum[k].i * spectrum[k].i;
    for (int m = 0; m < kMel; ++m) {
      float sum = 0;
      for (size_t i = 0; i < weights_[m].size(); ++i) sum += weights_[m][i] * power[start_[m] + i];
      out[m] = std::log(std::max(sum, FLT_EPSILON));
    }
  }

  kiss_fftr_cfg fft_;
  float window_[kLength];
  int start_[kMel] = {};
  std::vector<float> weights_[kMel];
};

void BM_Fbank5s(benchmark::State& state) {
  const Fbank fbank = Fbank::Create({}).value();
  const std::vector<float> samples = Noise(5 * kRate);
  std::vector<float> out(fbank.NumFrames(samples.size()) * kMel);
  for (auto _ : state) {
    fbank.Compute(samples, 0, fbank.NumFrames(samples.size()), out.data());
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(BM_Fbank5s)->Unit(benchmark::kMillisecond);

void BM_FbankOneFrame(benchmark::State& state) {  // the worst case of streaming: a block for a single frame
  const Fbank fbank = Fbank::Create({}).value();
  const std::vector<float> samples = Noise(kLength);
  std::vector<float> out(kMel);
  for (auto _ : state) {
    fbank.Compute(samples, 0, 1, out.data());
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(BM_FbankOneFrame)->Unit(benchmark::kMicrosecond);

void BM_LibraryFft5s(benchmark::State& state) {
  LibraryFbank fbank;
  const std::vector<float> samples = Noise(5 * kRate);
  const int num_frames = 1 + (5 * kRate - kLength) / kShift;
  std::vector<float> out(num_frames * kMel), ours(num_frames * kMel);
  Fbank::Create({}).value().Compute(samples, 0, num_frames, ours.data());
  for (auto _ : state) {
    fbank.Compute(samples, num_frames, out.data());
    benchmark::DoNotOptimize(out.data());
  }
  double worst = 0;
  for (size_t i = 0; i < out.size(); ++i) worst = std::max(worst, std::abs(double(out[i]) - ours[i]));
  if (worst > 1e-2) state.SkipWithError("the two features differ, so that their times say nothing");
}
BENCHMARK(BM_LibraryFft5s)->Unit(benchmark::kMillisecond);

void BM_Resample5s(benchmark::State& state) {
  const int from = static_cast<int>(state.range(0));
  const std::vector<float> samples = Noise(5 * from);
  for (auto _ : state) {
    Resampler resampler = Resampler::Create(from, kRate).value();
    std::vector<float> out;
    if (!resampler.Process(samples, &out).ok() || !resampler.Flush(&out).ok()) state.SkipWithError("resampling failed");
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(BM_Resample5s)->Arg(8000)->Arg(44100)->Arg(48000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ting

BENCHMARK_MAIN();
