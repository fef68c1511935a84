// src/text/unicode.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <algorithm>
#include <iterator>

#include "text/utf8.h"

namespace ting {
namespace {

struct UpperRun {
  int32_t first, last, step, difference;
};
struct UpperSpecial {
  char32_t code;
  const char16_t* upper;  // none is above U+FFFF
};

#include "text/unicode_table.inc"

void AppendUpper(char32_t c, std::string* out) {
  const auto special = std::lower_bound(std::begin(kUpperSpecials), std::end(kUpperSpecials), c,
                                        [](const UpperSpecial& entry, char32_t code) { return entry.code < code; });
  if (special != std::end(kUpperSpecials) && special->code == c) {
    for (const char16_t* p = special->upper; *p != 0; ++p) AppendUtf8(*p, out);
    return;
  }
  const auto code = static_cast<int32_t>(c);
  const auto run = std::lower_bound(std::begin(kUpperRuns), std::end(kUpperRuns), code,
                                    [](const UpperRun& entry, int32_t value) { return entry.last < value; });
  const bool mapped = run != std::end(kUpperRuns) && code >= run->first && (code - run->first) % run->step == 0;
  AppendUtf8(mapped ? static_cast<char32_t>(code + run->difference) : c, out);
}

}  // namespace

CharacterProperties PropertiesOf(char32_t c) {
  const uint32_t key = std::min<uint32_t>(c, 0x10ffff) << 8 | 0xff;
  const uint32_t entry = *(std::upper_bound(std::begin(kPropertyRanges), std::end(kPropertyRanges), key) - 1);
  return {static_cast<CharacterClass>(entry & 3), (entry & 4) != 0, static_cast<CharacterCluster>(entry >> 3 & 7)};
}

int64_t DisplayWidth(std::string_view text) {
  int64_t width = 0;
  while (!text.empty()) {
    const CodePoint c = FirstCodePoint(text);
    width += PropertiesOf(c.value).wide ? 2 : 1;
    text.remove_prefix(c.bytes);
  }
  return width;
}

std::string ToUpper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const CodePoint c = FirstCodePoint(text);
    if (c.value < 0x80) {
      out += c.value >= 'a' && c.value <= 'z' ? static_cast<char>(c.value - 'a' + 'A') : static_cast<char>(c.value);
    } else {
      AppendUpper(c.value, &out);
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

}  // namespace ting
