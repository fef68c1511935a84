// src/frontend/resampler.h
// SPDX-License-Identifier: Apache-2.0
//
// Changes the sample rate of one channel, in pieces of any size (soxr, very high quality: 28 bits, pass band
// to 0.91 of the lower Nyquist). The delay of the filter is taken out: sample k of the output is the sound at
// k / out_rate. The last samples appear with Flush.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ting/status.h"

struct soxr;

namespace ting {

inline constexpr int kMinSampleRateHz = 1000, kMaxSampleRateHz = 768000;

class Resampler {
 public:
  // Equal rates are allowed and copy.
  static Result<Resampler> Create(int in_rate_hz, int out_rate_hz);

  // Appends to *out what `samples` make available.
  Status Process(std::span<const float> samples, std::vector<float>* out);
  // Appends the rest. Nothing may be processed afterwards.
  Status Flush(std::vector<float>* out);

 private:
  struct Delete {
    void operator()(soxr* state) const;
  };
  Resampler(soxr* state, double ratio) : state_(state), ratio_(ratio) {}

  std::unique_ptr<soxr, Delete> state_;  // null: equal rates
  double ratio_ = 1.0;
};

}  // namespace ting
