// tests/base/bfloat16_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "base/bfloat16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace ting {
namespace {

TEST(BFloat16, EveryValueSurvivesTheWayToF32AndBack) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    BFloat16 value;
    value.bits = static_cast<uint16_t>(bits);
    const float f = static_cast<float>(value);
    const BFloat16 back(f);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(back)));
    } else {
      ASSERT_EQ(back.bits, value.bits);
    }
  }
}

TEST(BFloat16, RoundsToNearestEven) {
  const auto bits = [](uint32_t f32) { return BFloat16(std::bit_cast<float>(f32)).bits; };
  EXPECT_EQ(bits(0x3f800000), 0x3f80);  // 1
  EXPECT_EQ(bits(0x3f807fff), 0x3f80);  // just below half
  EXPECT_EQ(bits(0x3f808000), 0x3f80);  // half: to the even one below
  EXPECT_EQ(bits(0x3f818000), 0x3f82);  // half: to the even one above
  EXPECT_EQ(bits(0x3f808001), 0x3f81);  // just above half
  EXPECT_EQ(bits(0xbf818000), 0xbf82);  // the same below zero
  EXPECT_EQ(bits(0x7f7fffff), 0x7f80);  // the largest float rounds to infinity
  EXPECT_EQ(bits(0xff800000), 0xff80);  // -infinity
  EXPECT_EQ(bits(0x7f800001), 0x7fc0);  // a NaN whose payload would be lost stays a NaN
  EXPECT_EQ(bits(0x80000000), 0x8000);  // -0
}

TEST(BFloat16, ErrorIsAtMostHalfAUnit) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> exponent(-30, 30), mantissa(-2, 2);
  for (int i = 0; i < 10000; ++i) {
    const float f = mantissa(random) * std::exp2(exponent(random));
    EXPECT_LE(std::fabs(static_cast<float>(BFloat16(f)) - f), std::fabs(f) * 0x1p-8F) << f;  // 8 significant bits
  }
}

// Every half by the definition of binary16.
TEST(HalfToFloat, EveryValue) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double mantissa = (bits & 1023) / 1024.0;
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    const float f = HalfToFloat(static_cast<uint16_t>(bits));
    if (exponent == 31) {
      if (mantissa == 0) {
        EXPECT_EQ(f, sign * std::numeric_limits<float>::infinity());
      } else {
        EXPECT_TRUE(std::isnan(f));
      }
      continue;
    }
    const double expected =
        exponent == 0 ? sign * mantissa * 0x1p-14 : sign * (1 + mantissa) * std::exp2(exponent - 15);
    ASSERT_EQ(f, static_cast<float>(expected)) << bits;
    ASSERT_EQ(std::signbit(f), sign < 0);
  }
}

}  // namespace
}  // namespace ting
