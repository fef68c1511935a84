// src/frontend/cuda/fbank_core.h
// SPDX-License-Identifier: Apache-2.0
//
// One frame of the filter bank by 16 lanes, half a warp: every step between two meetings is plain arithmetic of a lane.
//   window -> complex transform of M = N / 2 points, decimation in frequency, radix 16 first and as long as it goes
//   -> power spectrum of the real signal -> triangles -> log
// 16 kHz: M = 256 is two passes of radix 16, so the frame goes through shared memory twice, and each lane has one
// butterfly a pass, in registers.
// Precision   f64 up to the power spectrum, as on the CPU and for its reason: in f32 the rounding noise of the
// transform
//             is about 1e-7 of the frame's RMS in every bin, which is more than 1e-3 in the quiet bins of a loud frame.
//             A frame is 10,000 f64 operations: at 64 a clock and multiprocessor, about 20 us for 64 x 5 s on an H200,
//             2 % of its encoder. GPUs with slow f64 pay some 30 times that, about as much in proportion.
//             The power is rounded to f32 (6e-8 relative), triangles sum positive f32 values.
// Same bits   a frame's lanes see its own samples alone, and every sum has a fixed order
// Banks       element i lies at i + i / 16, so that 16 lanes 16 elements apart meet different banks
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "base/device_code.h"

namespace ting::cuda_fbank {

constexpr int kLanes = 16;        // of a frame
constexpr int kMaxPoints = 1024;  // M: frames of up to 2048 samples

struct alignas(16) Complex {
  double re, im;
};

// Pointers to device memory.
struct DeviceTables {
  int32_t frame_length = 0, frame_shift = 0, points = 0, num_mel = 0;
  const Complex* window = nullptr;    // [M] of sample pairs, 0 behind the frame
  const Complex* twiddles = nullptr;  // pass after pass with span S and radix R: w_S^(q k), [k = 1 … R - 1][q < S / R]
  const Complex* real_twiddles = nullptr;  // [M / 2 + 1], exp(-2 pi i k / N)
  const int32_t* position = nullptr;       // [M], the place of frequency k in shared memory
  const int32_t* mel_start = nullptr;      // [num_mel]
  const int32_t* mel_offset = nullptr;     // [num_mel + 1] into the weights
  const float* mel_weights = nullptr;
};

TING_DEVICE int Place(int i) { return i + i / 16; }
constexpr int PaddedPoints(int points) { return points + points / 16; }

TING_DEVICE Complex Times(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

template <int R>
TING_DEVICE void Butterfly(Complex* a);  // in place; frequency k ends at a[Slot<R>(k)]
template <int R>
TING_DEVICE int Slot(int k) {
  return R == 16 ? k % 4 * 4 + k / 4 : k;
}

template <>
TING_DEVICE void Butterfly<2>(Complex* a) {
  const Complex difference{a[0].re - a[1].re, a[0].im - a[1].im};
  a[0] = {a[0].re + a[1].re, a[0].im + a[1].im};
  a[1] = difference;
}

TING_DEVICE void Fourier4(Complex* a0, Complex* a1, Complex* a2, Complex* a3) {
  const Complex s02{a0->re + a2->re, a0->im + a2->im}, d02{a0->re - a2->re, a0->im - a2->im};
  const Complex s13{a1->re + a3->re, a1->im + a3->im};
  const Complex d13{a1->im - a3->im, a3->re - a1->re};  // times -i
  *a0 = {s02.re + s13.re, s02.im + s13.im};
  *a1 = {d02.re + d13.re, d02.im + d13.im};
  *a2 = {s02.re - s13.re, s02.im - s13.im};
  *a3 = {d02.re - d13.re, d02.im - d13.im};
}

template <>
TING_DEVICE void Butterfly<4>(Complex* a) {
  Fourier4(a, a + 1, a + 2, a + 3);
}

template <>
TING_DEVICE void Butterfly<16>(Complex* a) {
  constexpr double c1 = 0.92387953251128675613, s1 = 0.38268343236508977173, c2 = 0.70710678118654752440;
  TING_UNROLL
  for (int c = 0; c < 4; ++c) Fourier4(a + c, a + 4 + c, a + 8 + c, a + 12 + c);
  a[5] = Times(a[5], {c1, -s1});
  a[6] = Times(a[6], {c2, -c2});
  a[7] = Times(a[7], {s1, -c1});
  a[9] = Times(a[9], {c2, -c2});
  a[10] = {a[10].im, -a[10].re};
  a[11] = Times(a[11], {-c2, -c2});
  a[13] = Times(a[13], {s1, -c1});
  a[14] = Times(a[14], {-c2, -c2});
  a[15] = Times(a[15], {-c1, s1});
  TING_UNROLL
  for (int j = 0; j < 4; ++j) Fourier4(a + 4 * j, a + 4 * j + 1, a + 4 * j + 2, a + 4 * j + 3);
}

// The samples of one frame, its mean taken away; a sample with its pre-emphasis. int16: exact up to the mean.
struct Int16Frame {
  const int16_t* x;
  double mean;

  template <class Lanes>
  TING_DEVICE Int16Frame(Lanes lanes, const int16_t* samples, int length) : x(samples) {
    int32_t sum = 0;
    for (int j = lanes.lane(); j < length; j += kLanes) sum += x[j];
    mean = static_cast<double>(lanes.Sum(sum)) / length;
  }
  TING_DEVICE double At(int j) const {
    const int32_t difference = 100 * x[j] - 97 * x[j > 0 ? j - 1 : 0];
    return (difference - 3 * mean) * 0.01;
  }
};
struct FloatFrame {
  const float* x;
  double mean;

  template <class Lanes>
  TING_DEVICE FloatFrame(Lanes lanes, const float* samples, int length) : x(samples) {
    double sum = 0;
    for (int j = lanes.lane(); j < length; j += kLanes) sum += x[j];
    mean = lanes.Sum(sum) / length;
  }
  TING_DEVICE double At(int j) const { return (x[j] - mean) - (x[j > 0 ? j - 1 : 0] - mean) * 0.97; }
};

// kPoints: M, or 0: read it from the tables.
template <class Lanes, int kPoints>
class FrameTransform {
 public:
  // z [PaddedPoints(M)] and power [M] in memory that the lanes share.
  TING_DEVICE FrameTransform(Lanes lanes, const DeviceTables& tables, Complex* z, float* power)
      : lanes_(lanes), tables_(tables), z_(z), power_(power) {}

  template <class Frame>
  TING_DEVICE void Run(const Frame& frame, float* features) {
    FirstPass(frame);
    int span = points() / 16;
    const Complex* twiddles = tables_.twiddles + 15 * span;
    for (; span >= 16; span /= 16) twiddles = Pass<16>(span, twiddles);
    if constexpr (kPoints != 256) {
      for (; span >= 4; span /= 4) twiddles = Pass<4>(span, twiddles);
      if (span == 2) Pass<2>(span, twiddles);
    }
    Power();
    Mel(features);
  }

 private:
  TING_DEVICE int points() const { return kPoints > 0 ? kPoints : tables_.points; }

  template <class Frame>
  TING_DEVICE void FirstPass(const Frame& frame) {
    const int stride = points() / 16;
    for (int q = lanes_.lane(); q < stride; q += kLanes) {
      Complex a[16];
      TING_UNROLL
      for (int j = 0; j < 16; ++j) a[j] = Windowed(frame, q + stride * j);
      Store<16>(a, q, stride, tables_.twiddles + q, stride);
    }
    lanes_.Sync();
  }
  template <class Frame>
  TING_DEVICE Complex Windowed(const Frame& frame, int pair) const {
    const int j = 2 * pair;
    if (j >= tables_.frame_length) return {0, 0};
    const Complex window = tables_.window[pair];
    const double second = j + 1 < tables_.frame_length ? frame.At(j + 1) : 0;
    return {frame.At(j) * window.re, second * window.im};
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
    z_[Place(first)] = a[0];
    TING_UNROLL
    for (int k = 1; k < R; ++k) {
      const Complex out = a[Slot<R>(k)];
      z_[Place(first + stride * k)] = stride == 1 ? out : Times(out, twiddles[(k - 1) * num_twiddles]);
    }
  }

  // power[k] = 4 |X[k]|^2 for k < M: the spectrum of the real signal from that of its packed halves.
  TING_DEVICE void Power() {
    const int M = points();
    for (int k = lanes_.lane(); k <= M / 2; k += kLanes) {
      const Complex a = z_[tables_.position[k]], b = z_[tables_.position[k == 0 ? 0 : M - k]];
      const Complex even{a.re + b.re, a.im - b.im};
      const Complex odd = Times({a.im + b.im, b.re - a.re}, tables_.real_twiddles[k]);
      const double re = even.re + odd.re, im = even.im + odd.im;
      const double mirror_re = even.re - odd.re, mirror_im = even.im - odd.im;
      power_[k] = static_cast<float>(re * re + im * im);
      if (k > 0) power_[M - k] = static_cast<float>(mirror_re * mirror_re + mirror_im * mirror_im);
    }
    lanes_.Sync();
  }

  TING_DEVICE void Mel(float* features) {
    for (int m = lanes_.lane(); m < tables_.num_mel; m += kLanes) {
      const int32_t begin = tables_.mel_offset[m], count = tables_.mel_offset[m + 1] - begin;
      const float* bins = power_ + tables_.mel_start[m];
      float sum = 0;
      for (int32_t i = 0; i < count; ++i) sum += bins[i] * tables_.mel_weights[begin + i];
      features[m] = logf(fminf(fmaxf(sum, FLT_EPSILON), FLT_MAX));  // finite for any samples
    }
  }

  const Lanes lanes_;
  const DeviceTables& tables_;
  Complex* const z_;
  float* const power_;
};

}  // namespace ting::cuda_fbank
