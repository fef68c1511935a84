// src/frontend/cuda/fbank_core.h
// SPDX-License-Identifier: Apache-2.0
//
// One frame of the filter bank by 16 lanes, half a warp: every step between two meetings is plain arithmetic of a lane.
//   window -> complex transform of M = N / 2 points, decimation in frequency, radix 16 first and as long as it goes
//   -> power spectrum of the real signal -> triangles -> log
// 16 kHz: M = 256 is two passes of radix 16; each lane has one butterfly a pass, in registers, and what the second one
// gives stays there: the frame goes through shared memory once, the power spectrum after it.
// Precision   f64 up to the power spectrum, as on the CPU and for its reason: in f32 the rounding noise of the
//             transform is about 1e-7 of the frame's RMS in every bin, which is more than 1e-3 in the quiet bins of a
//             loud frame. The power is rounded to f32 (6e-8 relative), triangles sum positive f32 values.
// Time        335 s of 16 kHz audio (33,366 frames) take 60 us on an H100, 5 s alone 12 us. The former's bytes would be
//             10 us and its f64 operations, 10,000 a frame, 20 us, some 30 times that on GPUs with slow f64.
// Same bits   a frame's lanes see its own samples alone, and every sum has a fixed order
// Banks       element i lies at i + i / 16, so that 16 lanes 16 elements apart meet different banks
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "base/device_code.h"
#include "frontend/cuda/fbank_butterfly.h"

namespace ting::cuda_fbank {

constexpr int kLanes = 16;                             // of a frame
constexpr int kMaxPoints = 1024;                       // M: frames of up to 2048 samples
constexpr int kUsualLength = 400, kUsualPoints = 256;  // 25 ms at 16 kHz
constexpr double kEmphasis = 0.97;

// What a bin counts in the band whose triangle rises there, and in the one before, whose triangle falls.
struct alignas(8) MelWeights {
  float rising, falling;
};

// Pointers to device memory.
struct DeviceTables {
  int32_t frame_length = 0, frame_shift = 0, points = 0, num_mel = 0, mel_rounds = 0;
  const Complex* window = nullptr;    // [M] of sample pairs, 0 behind the frame
  const Complex* twiddles = nullptr;  // pass after pass with span S and radix R: w_S^(q k), [k = 1 … R - 1][q < S / R]
  const Complex* real_twiddles = nullptr;  // [M / 2 + 1], exp(-2 pi i k / N)
  const int32_t* position = nullptr;       // [M], the place of frequency k in shared memory
  // Segment 0, the rising side of band 0, is the last lane's in round 0; round r >= 1 has segments
  // 16 (r - 1) + 1 … 16 r.
  const int32_t* mel_count = nullptr;       // [mel_rounds], bins of the round's widest segment
  const int32_t* mel_start = nullptr;       // [mel_rounds][kLanes], where the segment's bins begin
  const MelWeights* mel_weights = nullptr;  // [sum of mel_count][kLanes], 0 where a segment has no bin
};

TING_DEVICE int Place(int i) { return i + (i >> 4); }
constexpr int PaddedPoints(int points) { return points + points / 16; }

// kLength: the frame's length, or 0: read it from the tables.
template <class Lanes, int kLength>
class FrameTransform {
 public:
  // z [PaddedPoints(M)] and power [M] in memory that the lanes share, for kUsualLength in one place if need be.
  TING_DEVICE FrameTransform(Lanes lanes, const DeviceTables& tables, Complex* z, float* power)
      : lanes_(lanes), tables_(tables), z_(z), power_(power) {}

  template <class Sample>
  TING_DEVICE void Run(const Sample* samples, float* features) {
    FirstPass(samples);
    if constexpr (kUsual) {
      LastPassAndPower();
    } else {
      OtherPasses();
      Power();
    }
    lanes_.Sync();
    Mel(features);
  }

 private:
  static constexpr bool kUsual = kLength == kUsualLength;
  static_assert(kUsual || kLength == 0);

  TING_DEVICE int points() const { return kUsual ? kUsualPoints : tables_.points; }
  TING_DEVICE int length() const { return kUsual ? kUsualLength : tables_.frame_length; }

  template <class Sample>
  TING_DEVICE void FirstPass(const Sample* samples) {
    const int stride = points() / 16;
    Complex a[16];
    if constexpr (kUsual) {  // a lane has one butterfly: it loads its samples once
      LoadPairs(samples, lanes_.lane(), a);
      FirstButterfly(samples, lanes_.lane(), EmphasizedMean(SumOf(a)), a);
    } else {
      double sum = 0;
      for (int q = lanes_.lane(); q < stride; q += kLanes) {
        LoadPairs(samples, q, a);
        sum += SumOf(a);
      }
      const double mean = EmphasizedMean(sum);
      for (int q = lanes_.lane(); q < stride; q += kLanes) {
        LoadPairs(samples, q, a);
        FirstButterfly(samples, q, mean, a);
      }
    }
    lanes_.Sync();
  }
  TING_DEVICE double EmphasizedMean(double sum) const { return lanes_.Sum(sum) * ((1 - kEmphasis) / length()); }
  template <class Sample>
  TING_DEVICE void FirstButterfly(const Sample* samples, int q, double mean, Complex* a) {
    Window(samples, q, mean, a);
    Store<16>(a, q, points() / 16, tables_.twiddles + q, points() / 16);
  }
  // Row j of lane q's 16 pairs is pair q + j M / 16.
  template <class Sample>
  TING_DEVICE void LoadPairs(const Sample* samples, int q, Complex* a) const {
    const Sample* own = samples + 2 * q;
    TING_UNROLL
    for (int j = 0; j < 16; ++j) {
      a[j].re = Inside(2 * q, j) ? static_cast<double>(own[RowStep() * j]) : 0;
      a[j].im = Inside(2 * q + 1, j) ? static_cast<double>(own[RowStep() * j + 1]) : 0;
    }
  }
  TING_DEVICE static double SumOf(const Complex* a) {
    double sums[4] = {};  // short chains
    TING_UNROLL
    for (int j = 0; j < 16; ++j) {
      sums[j % 2] += a[j].re;
      sums[2 + j % 2] += a[j].im;
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
  // Pre-emphasis x[i] - 0.97 x[i - 1] less its mean, windowed; the first sample is its own predecessor.
  template <class Sample>
  TING_DEVICE void Window(const Sample* samples, int q, double mean, Complex* a) const {
    const Sample* own = samples + 2 * q;
    const Complex* window = tables_.window + q;
    TING_UNROLL
    for (int j = 0; j < 16; ++j) {
      if (Outside(j)) continue;  // a[j] is 0
      const int before = j == 0 && q == 0 ? 0 : RowStep() * j - 1;
      const double emphasis = Inside(2 * q, j) ? kEmphasis * static_cast<double>(own[before]) : 0;
      const Complex x = a[j], w = window[RowStep() / 2 * j];
      a[j] = {(x.re - emphasis - mean) * w.re, (x.im - kEmphasis * x.re - mean) * w.im};
    }
  }
  TING_DEVICE int RowStep() const { return points() / 8; }  // in samples
  // Whether sample i of row 0 is one of the frame in row j; most rows know it at compile time.
  TING_DEVICE bool Inside(int i, int j) const {
    return !Outside(j) && ((kUsual && 32 * (j + 1) <= kLength) || i + RowStep() * j < length());
  }
  TING_DEVICE static bool Outside(int j) { return kUsual && 32 * j >= kLength; }

  TING_DEVICE void OtherPasses() {
    int span = points() / 16;
    const Complex* twiddles = tables_.twiddles + 15 * span;
    for (; span >= 16; span /= 16) twiddles = Pass<16>(span, twiddles);
    for (; span >= 4; span /= 4) twiddles = Pass<4>(span, twiddles);
    if (span == 2) Pass<2>(span, twiddles);
  }
  // Radix R within blocks of `span`: in place, so that no butterfly meets another.
  template <int R>
  TING_DEVICE const Complex* Pass(int span, const Complex* twiddles) {
    const int stride = span / R;
    for (int u = lanes_.lane(); u < points() / R; u += kLanes) {
      const int q = u % stride, first = u / stride * span + q;
      Complex a[R];
      TING_UNROLL
      for (int j = 0; j < R; ++j) a[j] = z_[Place(first + stride * j)];
      Store<R>(a, first, stride, twiddles + q, stride);
    }
    lanes_.Sync();
    return twiddles + (R - 1) * stride;
  }
  template <int R>
  TING_DEVICE void Store(Complex* a, int first, int stride, const Complex* twiddles, int num_twiddles) {
    Butterfly<R>(a);
    if (stride > 1) Twist<R>(a, twiddles, num_twiddles);
    TING_UNROLL
    for (int k = 0; k < R; ++k) z_[Place(first + stride * k)] = a[Slot<R>(k)];
  }
  // Frequency k times w^k; k = 4 h + l is made of w^(4 h) and w^l, since loads are dearer than products here.
  template <int R>
  TING_DEVICE static void Twist(Complex* a, const Complex* twiddles, int num_twiddles) {
    Complex low[4];
    TING_UNROLL
    for (int l = 1; l < 4 && l < R; ++l) low[l] = twiddles[(l - 1) * num_twiddles];
    TING_UNROLL
    for (int h = 0; h < R; h += 4) {
      Complex high;
      if (h > 0) high = twiddles[(h - 1) * num_twiddles];
      TING_UNROLL
      for (int l = h > 0 ? 0 : 1; l < 4 && l < R; ++l) {
        Complex& out = a[Slot<R>(h + l)];
        out = Times(out, h == 0 ? low[l] : l == 0 ? high : Times(high, low[l]));
      }
    }
  }

  // Two passes of radix 16 leave frequency k = u + 16 j with lane u, and k's mirror M - k with lane 16 - u: the
  // spectrum stays in registers.
  TING_DEVICE void LastPassAndPower() {
    const int u = lanes_.lane(), partner = (kLanes - u) % kLanes;
    Complex a[16];
    TING_UNROLL
    for (int j = 0; j < 16; ++j) a[j] = z_[Place(16 * u + j)];
    lanes_.Sync();  // the power may take the points' place
    Butterfly<16>(a);
    const Complex twiddle = tables_.real_twiddles[u];
    TING_UNROLL
    for (int j = 0; j < 8; ++j) {
      const Complex other = a[Slot<16>(15 - j)], own = a[Slot<16>((16 - j) % 16)];
      Complex mirror{lanes_.Shuffle(other.re, partner), lanes_.Shuffle(other.im, partner)};
      if (u == 0) mirror = own;
      StorePower(u + 16 * j, a[Slot<16>(j)], mirror, j == 0 ? twiddle : Times(twiddle, Root32(j)));
    }
    if (u == 0) StoreMiddlePower(a[Slot<16>(8)]);
  }
  TING_DEVICE void Power() {
    const int M = points();
    for (int k = lanes_.lane(); k < M / 2; k += kLanes) {
      StorePower(k, z_[tables_.position[k]], z_[tables_.position[k == 0 ? 0 : M - k]], tables_.real_twiddles[k]);
    }
    if (lanes_.lane() == 0) StoreMiddlePower(z_[tables_.position[M / 2]]);
  }
  // power[k] = 4 |X[k]|^2 for k < M: the spectrum of the real signal from that of its packed halves, a = Z[k] and
  // b = Z[M - k].
  TING_DEVICE void StorePower(int k, Complex a, Complex b, Complex twiddle) {
    const Complex even{a.re + b.re, a.im - b.im};
    const Complex odd = Times({a.im + b.im, b.re - a.re}, twiddle);
    const double re = even.re + odd.re, im = even.im + odd.im;
    const double mirror_re = even.re - odd.re, mirror_im = even.im - odd.im;
    power_[k] = static_cast<float>(re * re + im * im);
    if (k > 0) power_[points() - k] = static_cast<float>(mirror_re * mirror_re + mirror_im * mirror_im);
  }
  TING_DEVICE void StoreMiddlePower(Complex a) {  // X[M / 2] is Z[M / 2]'s conjugate
    power_[points() / 2] = static_cast<float>(4 * (a.re * a.re + a.im * a.im));
  }

  // A segment of bins, from the peak of one band to the next, is the falling side of one and the rising side of the
  // other. A round gives each lane a segment; band m gets its rising sum from the lane before.
  TING_DEVICE void Mel(float* features) {
    const int lane = lanes_.lane();
    const MelWeights* weights = tables_.mel_weights + lane;
    float last_rising = 0;  // in lane 0: of the last lane, a round ago
    int next_count = tables_.mel_count[0], next_start = tables_.mel_start[lane];  // loaded a round ahead
    for (int round = 0; round < tables_.mel_rounds; ++round) {
      const int segment = round * kLanes + lane, count = next_count, start = next_start;
      if (round + 1 < tables_.mel_rounds) {
        next_count = tables_.mel_count[round + 1];
        next_start = tables_.mel_start[segment + kLanes];
      }
      const MelWeights sums = MelSums(power_ + start, weights, count);
      weights += count * kLanes;
      const float rising = lanes_.Shuffle(sums.rising, (lane + kLanes - 1) % kLanes);
      const int m = segment - kLanes;
      if (m >= 0 && m < tables_.num_mel) features[m] = Log((lane == 0 ? last_rising : rising) + sums.falling);
      last_rising = rising;
    }
  }
  TING_DEVICE static MelWeights MelSums(const float* bins, const MelWeights* weights, int count) {
    constexpr int kAtOnce = 4;  // loads under way
    MelWeights sums{0, 0};
    for (int i = 0; i < count; i += kAtOnce) {
      TING_UNROLL
      for (int j = i; j < i + kAtOnce; ++j) {
        const float bin = j < count ? bins[j] : 0;
        const MelWeights w = j < count ? weights[j * kLanes] : MelWeights{0, 0};
        sums.rising += bin * w.rising;
        sums.falling += bin * w.falling;
      }
    }
    return sums;
  }
  TING_DEVICE static float Log(float power) {
    return logf(fminf(fmaxf(power, FLT_EPSILON), FLT_MAX));  // finite for any samples
  }

  const Lanes lanes_;
  const DeviceTables& tables_;
  Complex* const z_;
  float* const power_;
};

}  // namespace ting::cuda_fbank
