// src/frontend/cuda/fbank_tables_host.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/cuda/fbank_tables_host.h"

#include "base/status_macros.h"

namespace ting::cuda_fbank {
namespace {

// The radix of the pass over blocks of `span` points, as FrameTransform::Run goes.
int Radix(int span) { return span >= 16 ? 16 : span >= 4 ? 4 : 2; }

// Where the transform leaves frequency k of a block of `span` points.
int Position(int k, int span) {
  if (span == 1) return 0;
  const int radix = Radix(span);
  return k % radix * (span / radix) + Position(k / radix, span / radix);
}

Complex Root(double numerator, double denominator) {
  const Twiddle root = UnitRoot(numerator, denominator);
  return {root.re, root.im};
}

void MakeTransform(int points, HostTables* tables) {
  for (int span = points; span > 1; span /= Radix(span)) {
    for (int k = 1; k < Radix(span); ++k) {
      for (int q = 0; q < span / Radix(span); ++q) tables->twiddles.push_back(Root(q * k, span));
    }
  }
  for (int k = 0; k <= points / 2; ++k) tables->real_twiddles.push_back(Root(k, 2 * points));
  for (int k = 0; k < points; ++k) tables->position.push_back(Place(Position(k, points)));
}

}  // namespace

DeviceTables HostTables::view() const {
  return {frame_length,      frame_shift,          points,          num_mel,          window.data(),
          twiddles.data(),   real_twiddles.data(), position.data(), mel_start.data(), mel_offset.data(),
          mel_weights.data()};
}

Result<HostTables> MakeHostTables(const FbankOptions& options) {
  TING_ASSIGN_OR_RETURN(const FbankTables fbank, MakeFbankTables(options));
  const int points = fbank.fft_size / 2;
  if (points > kMaxPoints) {
    return InvalidArgument("filter bank on the GPU: frames of {} samples; at most {}, the CPU computes longer ones",
                           fbank.frame_length, 2 * kMaxPoints);
  }
  HostTables tables{
      .frame_length = fbank.frame_length, .frame_shift = fbank.frame_shift, .points = points, .num_mel = fbank.num_mel};
  std::vector<double> window = fbank.window;
  window.resize(fbank.fft_size);
  for (int i = 0; i < points; ++i) tables.window.push_back({window[2 * i], window[2 * i + 1]});
  MakeTransform(points, &tables);
  tables.mel_start.assign(fbank.mel_start.begin(), fbank.mel_start.end());
  tables.mel_offset.push_back(0);
  for (const int count : fbank.mel_count) tables.mel_offset.push_back(tables.mel_offset.back() + count);
  tables.mel_weights.assign(fbank.mel_weights.begin(), fbank.mel_weights.end());
  return tables;
}

}  // namespace ting::cuda_fbank
