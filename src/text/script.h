// src/text/script.h
// SPDX-License-Identifier: Apache-2.0
//
// What separates words in mixed text. Chinese and Japanese are written without spaces, so that each character counts
// as a word; Korean has spaces and joins like an alphabet. The question of compute_wer.h is another one (there every
// letter of category Lo is a token), and has its own table.
#pragma once

namespace ting {

// Han characters, radicals, kana, bopomofo.
inline bool IsCjk(char32_t c) {
  return (c >= 0x2e80 && c <= 0x2fdf) || (c >= 0x3005 && c <= 0x3007) || (c >= 0x3021 && c <= 0x3029) ||
         (c >= 0x3031 && c <= 0x312f) || (c >= 0x31a0 && c <= 0x31ff) || (c >= 0x3400 && c <= 0x4dbf) ||
         (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0xff66 && c <= 0xff9f) ||
         (c >= 0x1aff0 && c <= 0x1b16f) || (c >= 0x20000 && c <= 0x3ffff);
}

// Punctuation of East Asian text ("，", "。", "《") and general punctuation ("…", "—"), but not the apostrophe "’",
// which is part of a word.
inline bool IsWidePunctuation(char32_t c) {
  return (c >= 0x2010 && c <= 0x205e && c != 0x2019) || (c >= 0x3000 && c <= 0x3020 && !IsCjk(c)) || c == 0x3030 ||
         (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff01 && c <= 0xff0f) || (c >= 0xff1a && c <= 0xff20) ||
         (c >= 0xff3b && c <= 0xff40) || (c >= 0xff5b && c <= 0xff65);
}

// Whether the character is a word by itself, whatever its neighbours.
inline bool StandsAlone(char32_t c) { return IsCjk(c) || IsWidePunctuation(c); }

}  // namespace ting
