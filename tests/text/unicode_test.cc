// tests/text/unicode_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The Unicode table against check sums that scripts/make_unicode_table.py --sums computes without building ranges, over
// all 1,114,112 code points.
#include "text/unicode.h"

#include <gtest/gtest.h>

#include "text/token_table.h"
#include "text/utf8.h"

namespace ting {
namespace {

// CRC-32 as in zlib.
uint32_t Crc32(const std::string& bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}

TEST(UnicodeTest, PropertiesOfAllCodePointsEqualPythons) {
  std::string properties;
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    const CharacterProperties p = PropertiesOf(c);
    properties += static_cast<char>(static_cast<int>(p.kind) | p.wide << 2 | static_cast<int>(p.cluster) << 3);
  }
  EXPECT_EQ(Crc32(properties), 477873466U);
}

TEST(UnicodeTest, UpperCaseOfAllCodePointsEqualsPythons) {
  std::string all;
  for (char32_t c = 0; c <= 0x10ffff; ++c) AppendUtf8(c >= 0xd800 && c < 0xe000 ? 0xfffd : c, &all);
  ASSERT_TRUE(IsValidUtf8(all));
  EXPECT_EQ(Crc32(ToUpper(all)), 2403521672U);
}

TEST(UnicodeTest, WorkedCases) {
  EXPECT_EQ(ToUpper("straße ÿ ﬃ 你a"), "STRASSE Ÿ FFI 你A");
  EXPECT_EQ(DisplayWidth("a你é°"), 1 + 2 + 2 + 2);  // é and ° are "ambiguous", which counts as wide
  EXPECT_EQ(DisplayWidth(""), 0);
  EXPECT_EQ(PropertiesOf(0xffffffff).kind, CharacterClass::kUnassigned);
}

TEST(Utf8Test, ReadsFromBothEndsAndWritesBack) {
  for (const char32_t c : {0x0U, 0x7fU, 0x80U, 0x7ffU, 0x800U, 0xfffdU, 0xffffU, 0x10000U, 0x10ffffU}) {
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_TRUE(IsValidUtf8(text));
    EXPECT_EQ(FirstCodePoint(text + "x").value, c);
    EXPECT_EQ(LastCodePoint("你" + text).value, c);
    EXPECT_EQ(FirstCodePoint(text).bytes, text.size());
  }
}

TEST(Utf8Test, StaysInsideBrokenText) {
  for (const std::string text : {"\xff", "\xe4", "\xe4\xb8", "\x80\x80\x80\x80\x80", "\xf0\x9f\x98", "\xc0\x80"}) {
    EXPECT_EQ(FirstCodePoint(text).value, 0xfffdU);
    EXPECT_EQ(FirstCodePoint(text).bytes, 1U);
    EXPECT_EQ(LastCodePoint(text).value, 0xfffdU);
    EXPECT_EQ(LastCodePoint(text).bytes, 1U);
  }
}

}  // namespace
}  // namespace ting
