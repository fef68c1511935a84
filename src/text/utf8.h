// src/text/utf8.h
// SPDX-License-Identifier: Apache-2.0
//
// Code points of UTF-8 text that is known to be valid (text/token_table.h: IsValidUtf8). On other bytes the functions
// stay inside the text and yield U+FFFD, one byte each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ting {

inline constexpr std::string_view kWordBoundary = "\xe2\x96\x81";  // U+2581, "▁": a space inside units

struct CodePoint {
  char32_t value = 0;
  size_t bytes = 0;
};

// The first code point of `text`, which is not empty.
inline CodePoint FirstCodePoint(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const size_t bytes = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (bytes == 0 || bytes > text.size()) return {0xfffd, 1};
  char32_t value = lead & (0x7fU >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0U) != 0x80) return {0xfffd, 1};
    value = value << 6 | (next & 0x3fU);
  }
  return {value, bytes};
}

// The last code point of `text`, which is not empty.
inline CodePoint LastCodePoint(std::string_view text) {
  size_t first = text.size() - 1;
  while (first > 0 && text.size() - first < 4 && (static_cast<unsigned char>(text[first]) & 0xc0U) == 0x80) --first;
  const CodePoint last = FirstCodePoint(text.substr(first));
  return first + last.bytes == text.size() ? last : CodePoint{0xfffd, 1};
}

inline void AppendUtf8(char32_t value, std::string* out) {
  const auto put = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (value < 0x80) return put(value);
  if (value < 0x800) return put(0xc0 | value >> 6), put(0x80 | (value & 0x3f));
  if (value < 0x10000) return put(0xe0 | value >> 12), put(0x80 | (value >> 6 & 0x3f)), put(0x80 | (value & 0x3f));
  put(0xf0 | value >> 18), put(0x80 | (value >> 12 & 0x3f)), put(0x80 | (value >> 6 & 0x3f)),
      put(0x80 | (value & 0x3f));
}

}  // namespace ting
