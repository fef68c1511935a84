// src/kernels/cpu/isa/simd.h
// SPDX-License-Identifier: Apache-2.0
//
// One vector of floats, as wide as the instruction set that this file is compiled for, and the few operations
// that the kernels need. GCC's vector extension gives + - * / and comparisons everywhere; intrinsics fill in the
// rest on x86. Included by isa_table.cc alone, inside its namespace's macro.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ting::cpu::TING_ISA {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float VecF __attribute__((vector_size(4 * kLanes)));
typedef int32_t VecI __attribute__((vector_size(4 * kLanes)));
typedef uint32_t VecU __attribute__((vector_size(4 * kLanes)));
typedef uint16_t VecH __attribute__((vector_size(2 * kLanes)));

#define TING_INLINE [[gnu::always_inline]] static inline

TING_INLINE VecF Load(const float* p) {
  VecF v;
  memcpy(&v, p, sizeof v);
  return v;
}
TING_INLINE void Store(float* p, VecF v) { memcpy(p, &v, sizeof v); }
TING_INLINE VecF Set1(float f) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(f);
#elif defined(__AVX2__)
  return _mm256_set1_ps(f);
#else
  return VecF{f, f, f, f};
#endif
}

TING_INLINE VecF Fma(VecF a, VecF b, VecF c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}
// A NaN in b survives both.
TING_INLINE VecF Max(VecF a, VecF b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
TING_INLINE VecF Min(VecF a, VecF b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

// The first n lanes (0 to kLanes); the others are `fill`, and their memory is not touched.
TING_INLINE VecF LoadPartial(const float* p, int64_t n, float fill = 0) {
  if (n >= kLanes) return Load(p);
#if defined(__AVX512F__)
  return _mm512_mask_loadu_ps(Set1(fill), static_cast<__mmask16>((1U << n) - 1), p);
#else
  float buffer[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) buffer[i] = i < n ? p[i] : fill;
  return Load(buffer);
#endif
}
TING_INLINE void StorePartial(float* p, VecF v, int64_t n) {
  if (n >= kLanes) return Store(p, v);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << n) - 1), v);
#else
  float buffer[kLanes];
  Store(buffer, v);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

// Lanes are added in a fixed tree: lane i and the lane half a vector on, again and again.
TING_INLINE float ReduceAdd(VecF v) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
  const __m256 eight = _mm512_castps512_ps256(v) + _mm512_extractf32x8_ps(v, 1);
#else
  const __m256 eight = v;
#endif
  const __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
  const __m128 two = four + _mm_movehl_ps(four, four);
  return two[0] + two[1];
#else
  float lane[kLanes];
  Store(lane, v);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
#endif
}
// Finite lanes, or -inf; what a NaN gives is not defined here: Max has kept it in no particular lane.
TING_INLINE float ReduceMax(VecF v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(v);
#else
  float lane[kLanes];
  Store(lane, v);
  float best = lane[0];
  for (int i = 1; i < kLanes; ++i) best = lane[i] > best ? lane[i] : best;
  return best;
#endif
}
// Bit i: a[i] > b[i].
TING_INLINE uint32_t GreaterLanes(VecF a, VecF b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)));
#else
  const VecI greater = a > b;
  uint32_t lanes = 0;
  for (int i = 0; i < kLanes; ++i) lanes |= (greater[i] & 1U) << i;
  return lanes;
#endif
}

// exp(x), relative error below 2e-7 where the result is normal; 0 below about -87.3; x above 88.3 gives exp(88.3).
// NaN stays NaN. 2^n * p(r), r = x - n ln 2 in two parts, p minimax of degree 5.
TING_INLINE VecF Exp(VecF x) {
  const VecF clamped = Min(Set1(88.3F), Max(Set1(-87.3F), x));
#if defined(__AVX512F__)
  const VecF n = _mm512_roundscale_ps(clamped * 1.44269504F, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const VecF shifted = Fma(clamped, Set1(1.44269504F), Set1(12582912.0F));  // 1.5 * 2^23: rounds to an integer
  const VecF n = shifted - 12582912.0F;
#endif
  VecF r = Fma(n, Set1(-0.693145751953125F), clamped);
  r = Fma(n, Set1(-1.42860677e-6F), r);
  VecF p = Fma(Set1(0.008290297F), r, Set1(0.041898023F));
  p = Fma(p, r, Set1(0.16667637F));
  p = Fma(p, r, Set1(0.49999148F));
  p = Fma(p, r, Set1(0.9999997F));
  p = Fma(p, r, Set1(1.0F));
#if defined(__AVX512F__)
  const VecF y = _mm512_scalef_ps(p, n);
  return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, Set1(-87.3F), _CMP_LT_OQ), Set1(0.0F));
#else
  const VecI exponent = ((VecI)shifted - (VecI)Set1(12582912.0F)) << 23;
  const VecF y = (VecF)((VecI)p + exponent);
  return x < -87.3F ? Set1(0.0F) : y;
#endif
}

// exp(x) for x <= 0 (softmax and log-sum-exp, after the maximum is taken off); the same accuracy with fewer steps
// where the scaling instruction underflows by itself.
TING_INLINE VecF ExpNonPositive(VecF x) {
#if defined(__AVX512F__)
  const VecF clamped = Max(Set1(-120.0F), x);  // -inf - -inf would be NaN
  const VecF n = _mm512_roundscale_ps(clamped * 1.44269504F, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  VecF r = Fma(n, Set1(-0.693145751953125F), clamped);
  r = Fma(n, Set1(-1.42860677e-6F), r);
  VecF p = Fma(Set1(0.008290297F), r, Set1(0.041898023F));
  p = Fma(p, r, Set1(0.16667637F));
  p = Fma(p, r, Set1(0.49999148F));
  p = Fma(p, r, Set1(0.9999997F));
  p = Fma(p, r, Set1(1.0F));
  return _mm512_scalef_ps(p, n);
#else
  return Exp(x);
#endif
}

// 1 / (1 + exp(-x)), relative error below 3e-7 for |x| < 30; with `kCoarse` 1e-4, for results that are rounded to bf16
// anyway. The activations are a tenth of the work of a bf16 feed-forward, so each step counts: r is found negated
// and with a one-part ln 2, the polynomial's signs alternate; the clamps keep r small and 1/d a normal number.
template <bool kCoarse>
TING_INLINE VecF Sigmoid(VecF x) {
#if defined(__AVX512F__)
  const VecF clamped = Min(Set1(87.0F), Max(Set1(-87.0F), x));
  const VecF n = _mm512_roundscale_ps(clamped * -1.44269504F, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const VecF r = Fma(n, Set1(0.693147182F), clamped);  // -(-x - n ln 2)
  VecF p;
  if constexpr (kCoarse) {
    p = Fma(Set1(-0.16517916F), r, Set1(0.50413203F));
    p = Fma(p, r, Set1(-1.000196F));
  } else {
    p = Fma(Set1(-0.008290297F), r, Set1(0.041898023F));
    p = Fma(p, r, Set1(-0.16667637F));
    p = Fma(p, r, Set1(0.49999148F));
    p = Fma(p, r, Set1(-0.9999997F));
  }
  p = Fma(p, r, Set1(1.0F));
  const VecF d = _mm512_scalef_ps(p, n) + 1.0F;
  const VecF y = _mm512_rcp14_ps(d);
  if constexpr (kCoarse) return y;
  return Fma(y, Fma(-d, y, Set1(1.0F)), y);  // one Newton step: 2^-14 becomes 2^-28
#else
  return 1.0F / (1.0F + Exp(Max(Set1(-87.0F), -x)));
#endif
}

// Nearest bf16 (ties to even) in the low half of each lane. NaN keeps a quiet NaN.
TING_INLINE VecU Bf16Bits(VecF v) {
  const VecU u = (VecU)v;
  const VecU rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
  const VecU nan = (VecU)(v != v);
  return (nan & ((u >> 16) | 0x40U)) | (~nan & rounded);
}
TING_INLINE VecF RoundBf16(VecF v) { return (VecF)(Bf16Bits(v) << 16); }
TING_INLINE void StoreBf16(uint16_t* p, VecF v) {
#if defined(__AVX512BF16__)
  const __m256bh h = _mm512_cvtneps_pbh(v);
  memcpy(p, &h, sizeof h);
#else
  const VecH h = __builtin_convertvector(Bf16Bits(v), VecH);
  memcpy(p, &h, sizeof h);
#endif
}
TING_INLINE void StoreBf16Partial(uint16_t* p, VecF v, int64_t n) {
  if (n >= kLanes) return StoreBf16(p, v);
  uint16_t buffer[kLanes];
  StoreBf16(buffer, v);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

}  // namespace ting::cpu::TING_ISA
