// src/frontend/fbank.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/fbank.h"

#include <cmath>
#include <numbers>

#include "base/check.h"
#include "base/status_macros.h"
#include "frontend/fbank_block.h"

namespace ting {
namespace {

constexpr double kLowHz = 20.0;

void ComputeBase(const FbankPlan& plan, const float* first, int64_t num_frames, double* scratch, float* out) {
  FbankBlock<2>::Run(plan, first, num_frames, scratch, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void ComputeAvx2(const FbankPlan& plan, const float* first, int64_t num_frames,
                                                     double* scratch, float* out) {
  FbankBlock<4>::Run(plan, first, num_frames, scratch, out);
}
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void ComputeAvx512(const FbankPlan& plan,
                                                                                          const float* first,
                                                                                          int64_t num_frames,
                                                                                          double* scratch, float* out) {
  FbankBlock<8>::Run(plan, first, num_frames, scratch, out);
}
#endif

void ChooseInstructionSet(int max_lanes, FbankPlan* plan) {
  plan->compute = ComputeBase;
  plan->lanes = 2;
#if defined(__x86_64__)
  if (max_lanes >= 4 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    plan->compute = ComputeAvx2;
    plan->lanes = 4;
  }
  if (max_lanes >= 8 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    plan->compute = ComputeAvx512;
    plan->lanes = 8;
  }
#else
  (void)max_lanes;
#endif
}

Twiddle UnitRoot(double numerator, double denominator) {
  const double angle = -2.0 * std::numbers::pi * numerator / denominator;
  return {std::cos(angle), std::sin(angle)};
}

// Where Transform leaves frequency k of a transform of n points.
int Position(int k, int n) {
  if (n == 1) return 0;
  if (n == 2) return k;
  return (k % 4) * (n / 4) + Position(k / 4, n / 4);
}

void MakeTransformTables(FbankPlan* plan) {
  const int points = plan->fft_size / 2;
  for (int span = points; span >= 4; span /= 4) {
    for (int j = 0; j < span / 4; ++j) {
      for (int power = 1; power <= 3; ++power) plan->stage_twiddles.push_back(UnitRoot(j * power, span));
    }
  }
  for (int k = 0; k <= points / 2; ++k) plan->real_twiddles.push_back(UnitRoot(k, plan->fft_size));
  for (int k = 0; k < points; ++k) plan->position.push_back(Position(k, points));
}

void MakeWindow(FbankPlan* plan) {
  for (int j = 0; j < plan->frame_length; ++j) {
    const double hann = 0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * j / (plan->frame_length - 1));
    plan->window.push_back(std::pow(hann, 0.85));
  }
}

double Mel(double hz) { return 1127.0 * std::log(1.0 + hz / 700.0); }

// Triangles as Kaldi's: the Nyquist bin is left out, edges are exclusive.
Status MakeMelFilters(const FbankOptions& options, FbankPlan* plan) {
  const int num_bins = plan->fft_size / 2;
  const double low = Mel(kLowHz), high = Mel(options.sample_rate_hz / 2.0);
  const double delta = (high - low) / (plan->num_mel + 1);
  for (int m = 0; m < plan->num_mel; ++m) {
    const double left = low + m * delta, center = left + delta, right = center + delta;
    int start = 0, count = 0;
    for (int bin = 0; bin < num_bins; ++bin) {
      const double mel = Mel(double(options.sample_rate_hz) * bin / plan->fft_size);
      if (mel <= left || mel >= right) continue;
      if (count++ == 0) start = bin;
      const double weight = mel <= center ? (mel - left) / delta : (right - mel) / delta;
      plan->mel_weights.push_back(weight / 4.0);  // Power() is four times the power
    }
    if (count == 0) {
      return InvalidArgument(
          "{} mel bins are too many for {} Hz and frames of {} samples: bin {} would be empty; use fewer bins",
          plan->num_mel, options.sample_rate_hz, plan->frame_length, m);
    }
    plan->mel_start.push_back(start);
    plan->mel_count.push_back(count);
  }
  return Status();
}

Status CheckOptions(const FbankOptions& options) {
  if (options.sample_rate_hz < 1000 || options.sample_rate_hz > 768000) {
    return InvalidArgument("the features' sample rate is {} Hz; it must be 1000 to 768000", options.sample_rate_hz);
  }
  if (options.num_mel_bins < 1 || options.num_mel_bins > 1024) {
    return InvalidArgument("num_mel_bins is {}; it must be 1 to 1024", options.num_mel_bins);
  }
  // Written so that NaN is refused too.
  if (!(options.frame_length_ms > 0 && options.frame_length_ms <= 1000 && options.frame_shift_ms > 0 &&
        options.frame_shift_ms <= 1000)) {
    return InvalidArgument("frames of {} ms every {} ms; both must be above 0 and at most 1000",
                           options.frame_length_ms, options.frame_shift_ms);
  }
  return Status();
}

// The whole samples of a duration, as Kaldi truncates it.
int SamplesOf(const FbankOptions& options, float ms) { return static_cast<int>(options.sample_rate_hz * 0.001 * ms); }

}  // namespace

Result<Fbank> Fbank::Create(const FbankOptions& options) { return CreateWithLanes(options, 8); }

Result<Fbank> Fbank::CreateWithLanes(const FbankOptions& options, int max_lanes) {
  TING_RETURN_IF_ERROR(CheckOptions(options));
  auto plan = std::make_shared<FbankPlan>();
  plan->frame_length = SamplesOf(options, options.frame_length_ms);
  plan->frame_shift = SamplesOf(options, options.frame_shift_ms);
  plan->num_mel = options.num_mel_bins;
  if (plan->frame_length < 17 || plan->frame_length > 65536 || plan->frame_shift < 1) {
    return InvalidArgument(
        "frames of {} ms every {} ms are {} every {} samples at {} Hz; use 17 to 65536 every 1 or more",
        options.frame_length_ms, options.frame_shift_ms, plan->frame_length, plan->frame_shift, options.sample_rate_hz);
  }
  plan->fft_size = 32;  // what 17 samples need; a multiple of every vector, so that a block's loads stay inside it
  while (plan->fft_size < plan->frame_length) plan->fft_size *= 2;
  MakeWindow(plan.get());
  MakeTransformTables(plan.get());
  TING_RETURN_IF_ERROR(MakeMelFilters(options, plan.get()));
  ChooseInstructionSet(max_lanes, plan.get());
  return Fbank(options, std::move(plan));
}

int Fbank::frame_length_samples() const { return plan_->frame_length; }
int Fbank::frame_shift_samples() const { return plan_->frame_shift; }
int Fbank::lanes() const { return plan_->lanes; }

int64_t Fbank::NumFrames(int64_t num_samples) const {
  if (num_samples < plan_->frame_length) return 0;
  return 1 + (num_samples - plan_->frame_length) / plan_->frame_shift;
}

void Fbank::Compute(std::span<const float> samples, int64_t first_frame, int64_t num_frames, float* out) const {
  if (num_frames <= 0) return;
  TING_CHECK(first_frame >= 0 && first_frame + num_frames <= NumFrames(static_cast<int64_t>(samples.size())),
             "frames outside the samples");
  // 48 KiB at 16 kHz; a call's own, so that threads share nothing.
  struct alignas(64) CacheLine {
    double values[8];
  };
  const size_t doubles = static_cast<size_t>(plan_->fft_size) * 3 / 2 * plan_->lanes;
  const auto scratch = std::make_unique_for_overwrite<CacheLine[]>(doubles / 8);
  plan_->compute(*plan_, samples.data() + first_frame * plan_->frame_shift, num_frames, scratch[0].values, out);
}

}  // namespace ting
