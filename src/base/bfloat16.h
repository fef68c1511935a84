// src/base/bfloat16.h
// SPDX-License-Identifier: Apache-2.0
//
// 16-bit storage types. Arithmetic happens in f32; these only convert.
#pragma once

#include <bit>
#include <cstdint>

namespace ting {

// Upper half of an f32; conversion rounds to nearest even, NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  explicit BFloat16(float f) {
    const uint32_t u = std::bit_cast<uint32_t>(f);
    if ((u & 0x7fffffffU) > 0x7f800000U) {
      bits = static_cast<uint16_t>((u >> 16) | 0x40U);
    } else {
      bits = static_cast<uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
    }
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// A number as the sum of the nearest bf16 and the bf16 nearest to what that leaves.
struct BFloat16x2 {
  BFloat16 high, low;

  BFloat16x2() = default;
  explicit BFloat16x2(float f) : high(f), low(f - static_cast<float>(high)) {}
  explicit operator float() const { return static_cast<float>(high) + static_cast<float>(low); }
};

// IEEE binary16 to f32, exact (subnormals, infinities and NaN included).
inline float HalfToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000U) << 16;
  uint32_t exponent = (h >> 10) & 0x1fU;
  uint32_t mantissa = h & 0x3ffU;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000U | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

}  // namespace ting
