// src/text/detokenize.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/detokenize.h"

#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "text/utf8.h"

namespace ting {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(kWhiteSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kWhiteSpace) + 1 - first);
}

// Until none is left, as removing one can put another together.
void RemoveAll(std::string_view what, std::string* text) {
  for (size_t from = 0;;) {
    const size_t at = text->find(what, from);
    if (at == std::string::npos) return;
    text->erase(at, what.size());
    from = at < what.size() ? 0 : at - what.size();
  }
}

std::string ReplaceBoundaries(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t size = std::min(text.find(kWordBoundary), text.size());
    out += text.substr(0, size);
    if (size == text.size()) break;
    out += ' ';
    text.remove_prefix(size + kWordBoundary.size());
  }
  return out;
}

bool IsEnglishWord(std::string_view word) {
  return std::all_of(word.begin(), word.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '\''; });
}

// Spaces stay between two English words only: they come from a word-level search, where Chinese words are separated
// like English ones.
std::string KeepEnglishSpaces(std::string_view text) {
  std::string out;
  bool english_before = false;
  for (text = Trim(text); !text.empty(); text = Trim(text)) {
    const std::string_view word = text.substr(0, text.find_first_of(kWhiteSpace));
    text.remove_prefix(word.size());
    const bool english = IsEnglishWord(word);
    if (english && english_before) out += ' ';
    out += word;
    english_before = english;
  }
  return out;
}

// Each run of "▁", and of spaces beside them, becomes one space; none at the ends.
std::string CollapseBoundaries(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    if (text.starts_with(kWordBoundary)) {
      if (!out.empty() && out.back() != ' ') out += ' ';
      text.remove_prefix(kWordBoundary.size());
    } else {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

Result<std::string> Detokenize(const TokenTable& table, std::span<const int32_t> ids, TextStyle style) {
  std::string joined;
  for (const int32_t id : ids) {
    if (id < 0 || id >= table.size()) {
      return InvalidArgument("token id {} is outside the list of {} units; is this the model's own list?", id,
                             table.size());
    }
    joined += table.text(id);
  }
  if (style == TextStyle::kRuntime) return CleanText(joined);
  if (table.kind() != "bpe") return joined;
  return std::string(Trim(ReplaceBoundaries(joined)));
}

std::string CleanText(std::string_view joined) {
  std::string text(joined);
  for (const std::string_view symbol : {"<unk>", "<context>", "</context>"}) RemoveAll(symbol, &text);
  return CollapseBoundaries(KeepEnglishSpaces(text));
}

}  // namespace ting
