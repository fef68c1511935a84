// src/text/cues.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/cues.h"

#include <algorithm>

#include "text/script.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace ting {
namespace {

constexpr std::u32string_view kSentenceEnds = U".?!。？！…";
constexpr std::u32string_view kClauseEnds = U",;:，、；：";
constexpr std::u32string_view kCloses = U".?!。？！…,;:，、；：)]}）】》」』”’";

char32_t Last(const WordSpan& word) { return word.text.empty() ? U' ' : LastCodePoint(word.text).value; }

bool EndsWith(const WordSpan& word, std::u32string_view marks) {
  return marks.find(Last(word)) != std::u32string_view::npos;
}

bool IsClosingPunctuation(const WordSpan& word) {
  return !word.text.empty() && kCloses.find(FirstCodePoint(word.text).value) != std::u32string_view::npos &&
         FirstCodePoint(word.text).bytes == word.text.size();
}

bool NeedsSpace(const WordSpan& left, const WordSpan& right) {
  if (left.text.empty() || right.text.empty()) return false;
  return !StandsAlone(Last(left)) && !StandsAlone(FirstCodePoint(right.text).value);
}

// Unlike DisplayWidth (which copies another program's habit), letters such as "é" have one column.
int32_t Columns(std::string_view text) {
  int32_t columns = 0;
  while (!text.empty()) {
    const CodePoint c = FirstCodePoint(text);
    columns += c.value >= 0x1100 && PropertiesOf(c.value).wide ? 2 : 1;
    text.remove_prefix(c.bytes);
  }
  return columns;
}

class CueSplitter {
 public:
  CueSplitter(std::span<const WordSpan> words, const WriterOptions& options) : words_(words), options_(options) {
    columns_.reserve(words.size() + 1);
    columns_.push_back(0);
    for (size_t i = 0; i < words.size(); ++i) {
      const bool space = i > 0 && NeedsSpace(words[i - 1], words[i]);
      columns_.push_back(columns_.back() + Columns(words[i].text) + (space ? 1 : 0));
    }
  }

  // The first word of each cue, and the number of words.
  std::vector<size_t> Split() const {
    std::vector<size_t> starts;
    if (!words_.empty()) starts.push_back(0);
    for (size_t i = 1; i < words_.size(); ++i) {
      if (IsClosingPunctuation(words_[i])) continue;
      if (Gap(i) >= options_.pause_ms || EndsWith(words_[i - 1], kSentenceEnds)) starts.push_back(i);
      while (starts.back() < i && !Fits(starts.back(), i)) starts.push_back(BestCut(starts.back(), i));
    }
    starts.push_back(words_.size());
    return starts;
  }

 private:
  int32_t Gap(size_t i) const { return words_[i].start_ms - words_[i - 1].end_ms; }

  bool Fits(size_t first, size_t last) const {
    return columns_[last + 1] - columns_[first] <= options_.max_cue_columns &&
           words_[last].end_ms - words_[first].start_ms <= options_.max_cue_ms;
  }

  // Where to start a new cue, in (first, end]: word `end` does not fit into the cue that starts with `first`.
  size_t BestCut(size_t first, size_t end) const {
    size_t best = end;
    bool after_clause = EndsWith(words_[end - 1], kClauseEnds);
    for (size_t cut = end - 1; cut > first && 2 * (cut - first) >= end - first; --cut) {
      if (after_clause) break;
      if (IsClosingPunctuation(words_[cut])) continue;
      after_clause = EndsWith(words_[cut - 1], kClauseEnds);
      if (after_clause || Gap(cut) > Gap(best)) best = cut;
    }
    return best;
  }

  std::span<const WordSpan> words_;
  const WriterOptions& options_;
  std::vector<int32_t> columns_;  // of the words before, with the spaces between them
};

}  // namespace

std::string JoinWords(std::span<const WordSpan> words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0 && NeedsSpace(words[i - 1], words[i])) text += ' ';
    text += words[i].text;
  }
  return text;
}

std::vector<Cue> MakeCues(std::span<const WordSpan> words, int32_t audio_ms, const WriterOptions& options) {
  const std::vector<size_t> starts = CueSplitter(words, options).Split();
  std::vector<Cue> cues;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const auto part = words.subspan(starts[i], starts[i + 1] - starts[i]);
    // A word ends at its peak, which is early for the eye: the text stays a little.
    int32_t end = std::max(part.back().end_ms, std::min(part.back().end_ms + options.hold_ms, audio_ms));
    if (starts[i + 1] < words.size()) end = std::min(end, words[starts[i + 1]].start_ms);
    cues.push_back({part.front().start_ms, std::max(end, part.front().start_ms + 1), JoinWords(part)});
  }
  return cues;
}

}  // namespace ting
