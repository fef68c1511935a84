// src/text/token_table.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/token_table.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/status_macros.h"
#include "text/utf8.h"

namespace ting {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::string_view kSpaces = " \t\r";
constexpr int64_t kMaxTokens = int64_t{1} << 20;

struct Line {
  std::string_view token;
  int64_t id = 0;
};

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

Result<Line> ParseLine(std::string_view line) {
  const size_t split = line.find_last_of(kSpaces);
  const size_t token_end = split == std::string_view::npos ? split : line.find_last_not_of(kSpaces, split);
  if (token_end == std::string_view::npos) return InvalidArgument("expected \"<token> <id>\"");
  Line out{line.substr(0, token_end + 1)};
  const std::string_view digits = line.substr(split + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.id);
  if (error != std::errc() || end != digits.data() + digits.size() || out.id < 0) {
    return InvalidArgument("the id must be a number from 0; expected \"<token> <id>\"");
  }
  if (out.token.find_first_of(kSpaces) != std::string_view::npos) {
    return InvalidArgument("white space inside the token; expected \"<token> <id>\"");
  }
  if (std::any_of(out.token.begin(), out.token.end(), IsControl)) {
    return InvalidArgument("a control character inside the token; is this a text file?");
  }
  if (!IsValidUtf8(out.token)) return InvalidArgument("the token is not valid UTF-8; convert the file to UTF-8");
  return out;
}

// The lines that hold something, with their numbers from 1.
std::vector<std::pair<int64_t, std::string_view>> SplitLines(std::string_view text) {
  std::vector<std::pair<int64_t, std::string_view>> lines;
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t size = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, size);
    text.remove_prefix(std::min(size + 1, text.size()));
    const size_t first = line.find_first_not_of(kSpaces);
    if (first == std::string_view::npos) continue;
    line = line.substr(first, line.find_last_not_of(kSpaces) + 1 - first);
    lines.emplace_back(number, line);
  }
  return lines;
}

}  // namespace

Result<TokenTable> TokenTable::Parse(std::string_view text) {
  const auto lines = SplitLines(text);
  const auto count = static_cast<int64_t>(lines.size());
  if (count == 0) return InvalidArgument("the list of units is empty");
  if (count > kMaxTokens) return InvalidArgument("{} units; at most {} are supported", count, kMaxTokens);
  TokenTable table;
  table.tokens_.resize(count);
  for (const auto& [number, line] : lines) {
    auto parsed = ParseLine(line);
    if (!parsed.ok()) return parsed.status().WithContext(fmt::format("line {}", number));
    const auto [token, id] = *parsed;
    // V lines with V different ids below V: no gap is possible.
    if (id >= count) {
      return InvalidArgument("line {}: id {} in a list of {} units; ids must be 0 to {} without a gap", number, id,
                             count, count - 1);
    }
    if (!table.tokens_[id].empty()) {
      return InvalidArgument("line {}: id {} was given to {} before", number, id, table.tokens_[id]);
    }
    if (!table.ids_.emplace(token, id).second) {
      return InvalidArgument("line {}: the unit {} occurs a second time", number, token);
    }
    table.tokens_[id] = token;
    if (token != kWordBoundary && token.find(kWordBoundary) != std::string_view::npos) table.is_bpe_ = true;
  }
  return table;
}

std::optional<int64_t> TokenTable::Find(std::string_view token) const {
  const auto it = ids_.find(token);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

std::string TokenTable::ToText() const {
  std::string out;
  // Parse takes one mark away; a first token that begins with the same character must keep it.
  if (size() > 0 && tokens_[0].starts_with(kByteOrderMark)) out = kByteOrderMark;
  for (int64_t id = 0; id < size(); ++id) out += fmt::format("{} {}\n", tokens_[id], id);
  return out;
}

bool IsValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t size = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (size == 0 || size > text.size() - i) return false;
    uint32_t code = size == 1 ? lead : lead & (0x7fU >> size);
    for (size_t j = 1; j < size; ++j) {
      const auto next = static_cast<unsigned char>(text[i + j]);
      if ((next & 0xc0U) != 0x80) return false;
      code = code << 6 | (next & 0x3fU);
    }
    const bool overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += size;
  }
  return true;
}

}  // namespace ting
