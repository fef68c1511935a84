// src/frontend/cuda/fbank_butterfly.h
// SPDX-License-Identifier: Apache-2.0
//
// Fourier transforms of 2, 4 and 16 complex points in one lane's registers.
#pragma once

#include "base/device_code.h"

namespace ting::cuda_fbank {

struct alignas(16) Complex {
  double re, im;
};

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

// exp(-2 pi i j / 32), 0 <= j <= 8
TING_DEVICE Complex Root32(int j) {
  constexpr double kCosines[] = {1,
                                 0.98078528040323044913,
                                 0.92387953251128675613,
                                 0.83146961230254523708,
                                 0.70710678118654752440,
                                 0.55557023301960222474,
                                 0.38268343236508977173,
                                 0.19509032201612826785,
                                 0};
  return {kCosines[j], -kCosines[8 - j]};
}

}  // namespace ting::cuda_fbank
