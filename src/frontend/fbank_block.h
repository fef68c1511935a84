// src/frontend/fbank_block.h
// SPDX-License-Identifier: Apache-2.0
//
// One block of W neighbouring frames at once, frame i in vector lane i, so that every step from the window to
// the log is plain vector arithmetic without shuffles, for any transform size. fbank.cc instantiates it for
// each instruction set (W = 2, 4, 8) inside functions that carry the target attribute; hence always_inline.
// Up to the log it computes in f64: in f32 the quietest mel bins of a loud frame (1e-10 of its energy) were off by
// up to 3e-3, more than the features may differ from the training's. It still takes a fraction of the time of
// a library FFT in f32 that does one frame at a time: bench/frontend_bench.cc measures both.
#pragma once

#include <cfloat>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "frontend/fbank_tables.h"

#define TING_FBANK_INLINE inline __attribute__((always_inline))

namespace ting {

// Tables of one configuration. N = fft_size (real), M = N / 2 complex points.
struct FbankPlan : FbankTables {
  std::vector<Twiddle> stage_twiddles;  // radix-4 stages one after the other, w^j w^2j w^3j for each j
  std::vector<Twiddle> real_twiddles;   // [M / 2 + 1], exp(-2 pi i k / N)
  std::vector<int> position;            // [M], where the transform leaves frequency k
  void (*compute)(const FbankPlan& plan, const float* first_sample, int64_t num_frames, double* scratch,
                  float* out) = nullptr;
  int lanes = 0;
};

template <int W>
struct FbankBlock {
  typedef double V __attribute__((vector_size(W * sizeof(double))));
  typedef float F __attribute__((vector_size(W * sizeof(float))));
  typedef int32_t I __attribute__((vector_size(W * sizeof(int32_t))));

  static TING_FBANK_INLINE F Load(const float* p) {
    F v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static TING_FBANK_INLINE void Store(float* p, F v) { std::memcpy(p, &v, sizeof(v)); }

  // Rows r and r + S exchange the S x S blocks off the diagonal.
  template <int S, int... L>
  static TING_FBANK_INLINE void Swap(F& a, F& b, std::integer_sequence<int, L...>) {
    const F upper = __builtin_shufflevector(a, b, ((L & S) ? W + L - S : L)...);
    b = __builtin_shufflevector(a, b, ((L & S) ? W + L : L + S)...);
    a = upper;
  }
  template <int S>
  static TING_FBANK_INLINE void Transpose(F* rows) {
    for (int r = 0; r < W; ++r) {
      if ((r & S) == 0) Swap<S>(rows[r], rows[r + S], std::make_integer_sequence<int, W>());
    }
    if constexpr (S > 1) Transpose<S / 2>(rows);
  }

  template <typename To, typename From>
  static TING_FBANK_INLINE To Convert(From v) {
    return __builtin_convertvector(v, To);
  }

  // x[j] = sample j of every lane's frame; returns the sum over j.
  static TING_FBANK_INLINE V Gather(const FbankPlan& plan, const float* first, int num_frames, V* x) {
    V sum = V{};
    for (int j = 0; j < plan.frame_length; j += W) {
      F rows[W];
      for (int lane = 0; lane < W; ++lane) {  // lanes past the end repeat the last frame
        const int frame = lane < num_frames ? lane : num_frames - 1;
        const float* source = first + int64_t{frame} * plan.frame_shift + j;
        if (j + W <= plan.frame_length) {
          rows[lane] = Load(source);
        } else {
          float padded[W] = {};
          std::memcpy(padded, source, (plan.frame_length - j) * sizeof(float));
          rows[lane] = Load(padded);
        }
      }
      Transpose<W / 2>(rows);
      for (int i = 0; i < W; ++i) x[j + i] = Convert<V>(rows[i]), sum += x[j + i];
    }
    return sum;
  }

  static TING_FBANK_INLINE void Window(const FbankPlan& plan, V sum, V* x) {
    const V mean = sum / double(plan.frame_length);
    V previous = x[0] - mean;
    for (int j = 0; j < plan.frame_length; ++j) {
      const V current = x[j] - mean;
      x[j] = (current - previous * 0.97) * plan.window[j];
      previous = current;
    }
    for (int j = plan.frame_length; j < plan.fft_size; ++j) x[j] = V{};
  }

  static TING_FBANK_INLINE void Multiply(V re, V im, Twiddle w, V* out) {
    out[0] = re * w.re - im * w.im;
    out[1] = re * w.im + im * w.re;
  }

  // Complex transform of the M pairs (x[2m], x[2m + 1]) in place, decimation in frequency, radix 4 with a last
  // stage of radix 2 where M is not a power of 4. Frequency k ends at pair position[k].
  static TING_FBANK_INLINE void Transform(const FbankPlan& plan, V* x) {
    const int points = plan.fft_size / 2;
    const Twiddle* twiddles = plan.stage_twiddles.data();
    int span = points;
    for (; span >= 4; span /= 4) {
      const int quarter = span / 4;
      for (int base = 0; base < points; base += span) {
        for (int j = 0; j < quarter; ++j) Butterfly4(x + 2 * (base + j), 2 * quarter, twiddles + 3 * j);
      }
      twiddles += 3 * quarter;
    }
    for (int base = 0; span == 2 && base < points; base += 2) Butterfly2(x + 2 * base);
  }
  static TING_FBANK_INLINE void Butterfly4(V* p, int stride, const Twiddle* w) {
    V *q = p + stride, *r = q + stride, *s = r + stride;
    const V sum02_re = p[0] + r[0], sum02_im = p[1] + r[1], diff02_re = p[0] - r[0], diff02_im = p[1] - r[1];
    const V sum13_re = q[0] + s[0], sum13_im = q[1] + s[1];
    const V diff13_re = q[1] - s[1], diff13_im = s[0] - q[0];  // times -i
    p[0] = sum02_re + sum13_re, p[1] = sum02_im + sum13_im;
    Multiply(diff02_re + diff13_re, diff02_im + diff13_im, w[0], q);
    Multiply(sum02_re - sum13_re, sum02_im - sum13_im, w[1], r);
    Multiply(diff02_re - diff13_re, diff02_im - diff13_im, w[2], s);
  }
  static TING_FBANK_INLINE void Butterfly2(V* p) {
    const V re = p[0] - p[2], im = p[1] - p[3];
    p[0] += p[2], p[1] += p[3];
    p[2] = re, p[3] = im;
  }

  // power[k] = 4 |X[k]|^2 for k in [0, M): the spectrum of the real signal from that of its packed halves.
  static TING_FBANK_INLINE void Power(const FbankPlan& plan, const V* x, V* power) {
    const int points = plan.fft_size / 2;
    const V dc = x[0] + x[1];
    power[0] = 4.0 * dc * dc;
    for (int k = 1; k <= points / 2; ++k) {
      const V* a = x + 2 * plan.position[k];
      const V* b = x + 2 * plan.position[points - k];
      const V even_re = a[0] + b[0], even_im = a[1] - b[1];
      V odd[2];
      Multiply(a[1] + b[1], b[0] - a[0], plan.real_twiddles[k], odd);
      const V re = even_re + odd[0], im = even_im + odd[1];
      const V mirror_re = even_re - odd[0], mirror_im = even_im - odd[1];
      power[k] = re * re + im * im;
      power[points - k] = mirror_re * mirror_re + mirror_im * mirror_im;
    }
  }

  // Natural logarithm of max(x, FLT_EPSILON), after Cephes' logf: within 2 ulp.
  static TING_FBANK_INLINE F LogFloored(F x) {
    const F floor = F{} + FLT_EPSILON;
    x = x < floor ? floor : x;
    I bits;
    std::memcpy(&bits, &x, sizeof(bits));
    const I exponent = (bits - 0x3f3504f3) >> 23;  // x = m * 2^exponent, m in [sqrt(1/2), sqrt(2))
    bits -= exponent << 23;
    F m;
    std::memcpy(&m, &bits, sizeof(m));
    const F f = m - 1.0F, f2 = f * f, e = Convert<F>(exponent);
    F p = f * 7.0376836292E-2F - 1.1514610310E-1F;
    p = p * f + 1.1676998740E-1F;
    p = p * f - 1.2420140846E-1F;
    p = p * f + 1.4249322787E-1F;
    p = p * f - 1.6668057665E-1F;
    p = p * f + 2.0000714765E-1F;
    p = p * f - 2.4999993993E-1F;
    p = p * f + 3.3333331174E-1F;
    return (f * f2 * p + e * -2.12194440E-4F - f2 * 0.5F) + f + e * 0.693359375F;
  }

  static TING_FBANK_INLINE void Mel(const FbankPlan& plan, const V* power, int num_frames, float* out) {
    const double* weights = plan.mel_weights.data();
    for (int m0 = 0; m0 < plan.num_mel; m0 += W) {
      const int width = plan.num_mel - m0 < W ? plan.num_mel - m0 : W;
      F rows[W];
      for (int i = 0; i < W; ++i) {
        V sum = V{};
        const int count = i < width ? plan.mel_count[m0 + i] : 0;
        const V* bins = power + (i < width ? plan.mel_start[m0 + i] : 0);
        for (int b = 0; b < count; ++b) sum += bins[b] * weights[b];
        weights += count;
        rows[i] = LogFloored(Convert<F>(sum));
      }
      Transpose<W / 2>(rows);
      for (int frame = 0; frame < W && frame < num_frames; ++frame) {
        float* row = out + int64_t{frame} * plan.num_mel + m0;
        if (width == W) {
          Store(row, rows[frame]);
        } else {
          std::memcpy(row, &rows[frame], width * sizeof(float));
        }
      }
    }
  }

  // scratch: [N + M] vectors, aligned to a vector.
  static TING_FBANK_INLINE void Run(const FbankPlan& plan, const float* first, int64_t num_frames, double* scratch,
                                    float* out) {
    V* x = reinterpret_cast<V*>(scratch);
    V* power = x + plan.fft_size;
    for (int64_t done = 0; done < num_frames; done += W) {
      const int block = num_frames - done < W ? static_cast<int>(num_frames - done) : W;
      const V sum = Gather(plan, first + done * plan.frame_shift, block, x);
      Window(plan, sum, x);
      Transform(plan, x);
      Power(plan, x, power);
      Mel(plan, power, block, out + done * plan.num_mel);
    }
  }
};

}  // namespace ting
