// src/text/token_table.h
// SPDX-License-Identifier: Apache-2.0
//
// The model's output units: WeNet's units.txt (older packages: words.txt, lang_char.txt, dict), one
// "<token> <id>" a line. Ids must be dense, 0 to V - 1, in any order; tokens must be unique, valid UTF-8 and without
// white space or control characters. Anything else is refused with its line, since an id that is off by one gives
// fluent, wrong text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ting/status.h"

namespace ting {

class TokenTable {
 public:
  static Result<TokenTable> Parse(std::string_view text);

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  const std::string& text(int64_t id) const { return tokens_[id]; }  // 0 <= id < size()
  std::optional<int64_t> Find(std::string_view token) const;

  // "bpe" if a token joins U+2581 (the word boundary of SentencePiece) with other text, otherwise "char".
  std::string_view kind() const { return is_bpe_ ? "bpe" : "char"; }

  // The table as text that Parse reads: ids in order.
  std::string ToText() const;

 private:
  struct TokenHash {
    using is_transparent = void;
    size_t operator()(std::string_view token) const { return std::hash<std::string_view>{}(token); }
  };

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int64_t, TokenHash, std::equal_to<>> ids_;
  bool is_bpe_ = false;
};

// Whether `text` is well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsValidUtf8(std::string_view text);

}  // namespace ting
