// src/frontend/cuda/fbank_tables_host.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/cuda/fbank_tables_host.h"

#include <algorithm>

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

// The triangles cut at their peaks: segment s, from the peak of band s - 1 to that of band s, is where one falls and
// the other rises.
class MelSegments {
 public:
  explicit MelSegments(const FbankTables& fbank) : fbank_(fbank), begin_(fbank.mel_start) {
    offset_.push_back(0);
    for (const int count : fbank.mel_count) offset_.push_back(offset_.back() + count);
    const auto last = fbank.mel_weights.begin() + offset_[fbank.num_mel - 1];
    const auto peak = std::max_element(last, fbank.mel_weights.end());
    begin_.push_back(begin_.back() + static_cast<int>(peak - last) + 1);
  }
  int size() const { return fbank_.num_mel + 1; }
  int Begin(int s) const { return begin_[s]; }
  int Width(int s) const {
    const int rising_end = s < fbank_.num_mel ? std::min(End(s), begin_[s + 1]) : 0;
    return std::max({rising_end - begin_[s], s > 0 ? End(s - 1) - begin_[s] : 0, 0});
  }
  MelWeights At(int s, int bin) const {
    const bool rises = s < fbank_.num_mel && bin<begin_[s + 1], falls = s> 0 && bin >= begin_[s];
    return {rises ? Weight(s, bin) : 0, falls ? Weight(s - 1, bin) : 0};
  }

 private:
  int End(int m) const { return fbank_.mel_start[m] + fbank_.mel_count[m]; }
  float Weight(int m, int bin) const {
    if (bin < fbank_.mel_start[m] || bin >= End(m)) return 0;
    return static_cast<float>(fbank_.mel_weights[offset_[m] + bin - fbank_.mel_start[m]]);
  }

  const FbankTables& fbank_;
  std::vector<int> begin_, offset_;
};

// The segments of a round [first, first + kLanes), some of which may not be.
void MakeMelRound(const MelSegments& segments, int first, HostTables* tables) {
  const int begin = std::max(first, 0), end = std::min(first + kLanes, segments.size());
  int count = 0;
  for (int s = begin; s < end; ++s) count = std::max(count, segments.Width(s));
  const auto start = [&](int s) {  // so that `count` bins are there
    return s < begin || s >= end ? 0 : std::min(segments.Begin(s), tables->points - count);
  };
  tables->mel_count.push_back(count);
  for (int s = first; s < first + kLanes; ++s) tables->mel_start.push_back(start(s));
  for (int i = 0; i < count; ++i) {
    for (int s = first; s < first + kLanes; ++s) {
      tables->mel_weights.push_back(s < begin || s >= end ? MelWeights{} : segments.At(s, start(s) + i));
    }
  }
}

void MakeMel(const FbankTables& fbank, HostTables* tables) {
  const MelSegments segments(fbank);
  for (int first = 1 - kLanes; first < segments.size(); first += kLanes) MakeMelRound(segments, first, tables);
  tables->mel_rounds = static_cast<int>(tables->mel_count.size());
}

}  // namespace

DeviceTables HostTables::view() const {
  return {frame_length,    frame_shift,      points,           num_mel,
          mel_rounds,      window.data(),    twiddles.data(),  real_twiddles.data(),
          position.data(), mel_count.data(), mel_start.data(), mel_weights.data()};
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
  MakeMel(fbank, &tables);
  return tables;
}

}  // namespace ting::cuda_fbank
