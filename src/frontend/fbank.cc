// src/frontend/fbank.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/fbank.h"

#include "base/check.h"
#include "base/status_macros.h"
#include "frontend/fbank_block.h"

namespace ting {
namespace {

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

}  // namespace

Result<Fbank> Fbank::Create(const FbankOptions& options) { return CreateWithLanes(options, 8); }

Result<Fbank> Fbank::CreateWithLanes(const FbankOptions& options, int max_lanes) {
  TING_ASSIGN_OR_RETURN(FbankTables tables, MakeFbankTables(options));
  auto plan = std::make_shared<FbankPlan>();
  static_cast<FbankTables&>(*plan) = std::move(tables);
  MakeTransformTables(plan.get());
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
