// src/text/unicode.h
// SPDX-License-Identifier: Apache-2.0
//
// What scoring asks of Unicode, answered as Python's unicodedata does (scripts/make_unicode_table.py): whether a
// character is a token of its own, its display width, the cluster that reports count it under, its upper case. The C
// library is not asked: its answers depend on the locale and on the system.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ting {

enum class CharacterClass : uint8_t {
  kOther,
  kLetter,      // category Lo: CJK, kana, Hangul and all letters without case
  kSpace,       // Zs
  kUnassigned,  // Cn
};

// By the start of the character's name.
enum class CharacterCluster : uint8_t { kOther, kNumber, kMandarin, kEnglish, kJapanese, kIgnored };

struct CharacterProperties {
  CharacterClass kind = CharacterClass::kOther;
  bool wide = false;  // two columns: East Asian width A, F or W
  CharacterCluster cluster = CharacterCluster::kOther;
};

CharacterProperties PropertiesOf(char32_t c);

// Sum of 1 or 2 columns a character.
int64_t DisplayWidth(std::string_view text);

// Python's str.upper(): full mapping, so "ß" becomes "SS".
std::string ToUpper(std::string_view text);

}  // namespace ting
