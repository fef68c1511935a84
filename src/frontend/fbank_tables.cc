// src/frontend/fbank_tables.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/fbank_tables.h"

#include <cmath>
#include <numbers>

#include "base/status_macros.h"

namespace ting {
namespace {

constexpr double kLowHz = 20.0;

void MakeWindow(FbankTables* tables) {
  for (int j = 0; j < tables->frame_length; ++j) {
    const double hann = 0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * j / (tables->frame_length - 1));
    tables->window.push_back(std::pow(hann, 0.85));
  }
}

double Mel(double hz) { return 1127.0 * std::log(1.0 + hz / 700.0); }

// Triangles as Kaldi's: the Nyquist bin is left out, edges are exclusive.
Status MakeMelFilters(const FbankOptions& options, FbankTables* tables) {
  const int num_bins = tables->fft_size / 2;
  const double low = Mel(kLowHz), high = Mel(options.sample_rate_hz / 2.0);
  const double delta = (high - low) / (tables->num_mel + 1);
  for (int m = 0; m < tables->num_mel; ++m) {
    const double left = low + m * delta, center = left + delta, right = center + delta;
    int start = 0, count = 0;
    for (int bin = 0; bin < num_bins; ++bin) {
      const double mel = Mel(double(options.sample_rate_hz) * bin / tables->fft_size);
      if (mel <= left || mel >= right) continue;
      if (count++ == 0) start = bin;
      const double weight = mel <= center ? (mel - left) / delta : (right - mel) / delta;
      tables->mel_weights.push_back(weight / 4.0);  // Power() is four times the power
    }
    if (count == 0) {
      return InvalidArgument(
          "{} mel bins are too many for {} Hz and frames of {} samples: bin {} would be empty; use fewer bins",
          tables->num_mel, options.sample_rate_hz, tables->frame_length, m);
    }
    tables->mel_start.push_back(start);
    tables->mel_count.push_back(count);
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

Twiddle UnitRoot(double numerator, double denominator) {
  const double angle = -2.0 * std::numbers::pi * numerator / denominator;
  return {std::cos(angle), std::sin(angle)};
}

Result<FbankTables> MakeFbankTables(const FbankOptions& options) {
  TING_RETURN_IF_ERROR(CheckOptions(options));
  FbankTables tables;
  tables.frame_length = SamplesOf(options, options.frame_length_ms);
  tables.frame_shift = SamplesOf(options, options.frame_shift_ms);
  tables.num_mel = options.num_mel_bins;
  if (tables.frame_length < 17 || tables.frame_length > 65536 || tables.frame_shift < 1) {
    return InvalidArgument(
        "frames of {} ms every {} ms are {} every {} samples at {} Hz; use 17 to 65536 every 1 or more",
        options.frame_length_ms, options.frame_shift_ms, tables.frame_length, tables.frame_shift,
        options.sample_rate_hz);
  }
  tables.fft_size = 32;  // what 17 samples need; a multiple of every vector, so that a block's loads stay inside it
  while (tables.fft_size < tables.frame_length) tables.fft_size *= 2;
  MakeWindow(&tables);
  TING_RETURN_IF_ERROR(MakeMelFilters(options, &tables));
  return tables;
}

}  // namespace ting
