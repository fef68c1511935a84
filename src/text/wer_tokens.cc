// src/text/wer_tokens.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/wer_tokens.h"

#include <algorithm>
#include <array>

#include "text/unicode.h"
#include "text/utf8.h"

namespace ting {
namespace {

constexpr char32_t kSkipped[] = U"!,?、。！，；？：「」︰『』《》";

bool IsAsciiSpace(char32_t c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

bool StartsNoToken(char32_t c, CharacterClass kind) {
  if (IsAsciiSpace(c) || kind == CharacterClass::kSpace || kind == CharacterClass::kUnassigned) return true;
  return std::find(std::begin(kSkipped), std::end(kSkipped) - 1, c) != std::end(kSkipped) - 1;
}

// Bytes of the run at the start of `text`, whose first character has `first_bytes`.
size_t RunSize(std::string_view text, size_t first_bytes) {
  const char separator = text.front() == '<' ? '>' : ' ';
  size_t size = first_bytes;
  while (size < text.size()) {
    const auto c = static_cast<unsigned char>(text[size]);
    if (c >= 0x80 || IsAsciiSpace(c) || text[size] == separator) break;
    ++size;
  }
  return size < text.size() && text[size] == '>' ? size + 1 : size;
}

std::vector<std::string> SplitCharacters(std::string_view line) {
  std::vector<std::string> tokens;
  while (!line.empty()) {
    const CodePoint c = FirstCodePoint(line);
    const CharacterClass kind = PropertiesOf(c.value).kind;
    size_t size = c.bytes;
    if (!StartsNoToken(c.value, kind)) {
      if (kind != CharacterClass::kLetter) size = RunSize(line, c.bytes);
      tokens.emplace_back(line.substr(0, size));
    }
    line.remove_prefix(size);
  }
  return tokens;
}

// Python's str.isspace().
bool IsWhiteSpace(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0x2028 || c == 0x2029 || c == ' ' ||
         PropertiesOf(c).kind == CharacterClass::kSpace;
}

std::vector<std::string> SplitWords(std::string_view line) {
  std::vector<std::string> tokens;
  bool open = false;
  while (!line.empty()) {
    const CodePoint c = FirstCodePoint(line);
    const bool space = IsWhiteSpace(c.value);
    if (!space && !open) tokens.emplace_back();
    if (!space) tokens.back() += line.substr(0, c.bytes);
    open = !space;
    line.remove_prefix(c.bytes);
  }
  return tokens;
}

// An unclosed '<' removes the rest.
std::string StripTags(std::string_view token) {
  std::string out;
  while (!token.empty()) {
    const size_t tag = std::min(token.find('<'), token.size());
    out += token.substr(0, tag);
    token.remove_prefix(tag);
    const size_t end = token.find('>');
    if (token.empty() || end == std::string_view::npos) break;
    token.remove_prefix(end + 1);
  }
  return out;
}

constexpr std::array<std::string_view, 5> kClusterNames = {"Other", "Number", "Mandarin", "English", "Japanese"};

}  // namespace

std::vector<std::string> SplitWerLine(std::string_view line, bool characters) {
  return characters ? SplitCharacters(line) : SplitWords(line);
}

std::vector<std::string> NormalizeWerTokens(const std::vector<std::string>& tokens, const WerOptions& options) {
  std::vector<std::string> out;
  out.reserve(tokens.size());
  for (const std::string& token : tokens) {
    std::string text = options.case_sensitive ? token : ToUpper(token);
    if (options.ignore_words.contains(text)) continue;
    if (options.strip_tags) text = StripTags(text);
    if (!text.empty()) out.push_back(std::move(text));
  }
  return out;
}

std::string_view WerClusterOf(std::string_view token) {
  auto common = CharacterCluster::kIgnored;
  bool mixed = false;
  while (!token.empty()) {
    const CodePoint c = FirstCodePoint(token);
    const CharacterCluster cluster = PropertiesOf(c.value).cluster;
    token.remove_prefix(c.bytes);
    if (cluster == CharacterCluster::kIgnored) continue;
    mixed |= common != CharacterCluster::kIgnored && cluster != common;
    common = cluster;
  }
  if (mixed || common == CharacterCluster::kIgnored) return kClusterNames[0];
  return kClusterNames[static_cast<size_t>(common)];
}

}  // namespace ting
