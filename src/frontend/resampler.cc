// src/frontend/resampler.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/resampler.h"

#include <soxr.h>

#include <algorithm>

#include "base/status_macros.h"

namespace ting {
namespace {

constexpr size_t kBlock = 1 << 16;

bool InRange(int rate_hz) { return rate_hz >= kMinSampleRateHz && rate_hz <= kMaxSampleRateHz; }

}  // namespace

void Resampler::Delete::operator()(soxr* state) const { soxr_delete(state); }

Result<Resampler> Resampler::Create(int in_rate_hz, int out_rate_hz) {
  if (!InRange(in_rate_hz) || !InRange(out_rate_hz)) {
    return InvalidArgument("cannot resample from {} Hz to {} Hz: both rates must be {} to {} Hz", in_rate_hz,
                           out_rate_hz, kMinSampleRateHz, kMaxSampleRateHz);
  }
  if (in_rate_hz == out_rate_hz) return Resampler(nullptr, 1.0);
  soxr_error_t error = nullptr;
  const soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_VHQ, 0);
  const soxr_runtime_spec_t runtime = soxr_runtime_spec(1);
  soxr* state = soxr_create(in_rate_hz, out_rate_hz, 1, &error, &io, &quality, &runtime);
  if (error != nullptr || state == nullptr) {
    return Internal("soxr cannot resample from {} Hz to {} Hz: {}", in_rate_hz, out_rate_hz,
                    error != nullptr ? error : "no reason given");
  }
  return Resampler(state, double(out_rate_hz) / in_rate_hz);
}

Status Resampler::Process(std::span<const float> samples, std::vector<float>* out) {
  if (!state_) {
    out->insert(out->end(), samples.begin(), samples.end());
    return Status();
  }
  while (!samples.empty()) {
    const size_t offered = std::min(samples.size(), kBlock);
    const size_t room = static_cast<size_t>(offered * ratio_) + 4096, before = out->size();
    size_t used = 0, made = 0;
    out->resize(before + room);
    const soxr_error_t error =
        soxr_process(state_.get(), samples.data(), offered, &used, out->data() + before, room, &made);
    out->resize(before + made);
    if (error != nullptr) return Internal("resampling failed: {}", error);
    if (used == 0 && made == 0) return Internal("resampling failed: soxr takes no more samples");
    samples = samples.subspan(used);
  }
  return Status();
}

Status Resampler::Flush(std::vector<float>* out) {
  if (!state_) return Status();
  for (size_t made = 1; made > 0;) {
    const size_t before = out->size();
    out->resize(before + kBlock);
    const soxr_error_t error = soxr_process(state_.get(), nullptr, 0, nullptr, out->data() + before, kBlock, &made);
    out->resize(before + made);
    if (error != nullptr) return Internal("resampling failed: {}", error);
  }
  return Status();
}

}  // namespace ting
