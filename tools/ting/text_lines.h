// tools/ting/text_lines.h
// SPDX-License-Identifier: Apache-2.0
//
// Splitting of the small text files that the program reads.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

namespace ting::tool {

inline constexpr std::string_view kBlanks = " \t\r\f\v";

inline std::string_view Trim(std::string_view s) {
  const size_t first = s.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(kBlanks) - first + 1);
}

// Lines without their "\n" or "\r\n"; an empty last line is not one.
inline std::vector<std::string_view> SplitLines(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// "key rest of the line": both trimmed, `rest` empty where there is none.
inline std::pair<std::string_view, std::string_view> SplitKey(std::string_view line) {
  line = Trim(line);
  const size_t end = std::min(line.find_first_of(kBlanks), line.size());
  return {line.substr(0, end), Trim(line.substr(end))};
}

inline std::vector<std::string_view> SplitTabs(std::string_view line) {
  std::vector<std::string_view> fields;
  for (size_t tab; (tab = line.find('\t')) != std::string_view::npos; line.remove_prefix(tab + 1)) {
    fields.push_back(line.substr(0, tab));
  }
  fields.push_back(line);
  return fields;
}

}  // namespace ting::tool
