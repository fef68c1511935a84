// src/text/word_times.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/word_times.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/status_macros.h"
#include "text/script.h"
#include "text/utf8.h"

namespace ting {
namespace {

// Times within the part of the audio that the peaks count in.
struct PeakTimes {
  std::span<const int32_t> peaks;
  const TokenTimeOptions& options;

  bool Close(size_t left) const {
    return (int64_t{peaks[left + 1]} - peaks[left]) * options.frame_ms < options.max_token_ms;
  }
  int64_t Ms(int64_t frame) const { return frame * options.frame_ms; }
  int64_t Midpoint(size_t left) const { return Ms((int64_t{peaks[left]} + peaks[left + 1]) / 2); }
  int64_t Start(size_t i) const {
    if (i > 0 && Close(i - 1)) return Midpoint(i - 1);
    return std::max<int64_t>(Ms(peaks[i]) - options.max_token_ms, 0);
  }
  int64_t End(size_t i) const { return i + 1 < peaks.size() && Close(i) ? Midpoint(i) : Ms(peaks[i]); }
};

Status CheckInputs(const TokenTable& table, std::span<const int32_t> ids, std::span<const int32_t> peaks,
                   std::span<const double> confidences, const TokenTimeOptions& options) {
  const auto bad_id = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id < 0 || id >= table.size(); });
  if (bad_id != ids.end()) {
    return InvalidArgument("token id {} is outside the list of {} units; is this the model's own list?", *bad_id,
                           table.size());
  }
  if (!peaks.empty() && peaks.size() != ids.size()) {
    return InvalidArgument("{} peak frames for {} tokens; give one a token, or none", peaks.size(), ids.size());
  }
  if (!confidences.empty() && confidences.size() != ids.size()) {
    return InvalidArgument("{} confidences for {} tokens; give one a token, or none", confidences.size(), ids.size());
  }
  if (std::any_of(peaks.begin(), peaks.end(), [](int32_t peak) { return peak < 0; })) {
    return InvalidArgument("a peak frame is negative; frames count from 0");
  }
  if (options.frame_ms <= 0 || options.max_token_ms < 0 || options.first_frame < 0) {
    return InvalidArgument("frame_ms {} must be above 0, max_token_ms {} and first_frame {} at least 0",
                           options.frame_ms, options.max_token_ms, options.first_frame);
  }
  return Status();
}

struct Piece {
  std::string_view text;  // without "▁"
  bool starts_word = false;
  bool ends_word = false;  // nothing may be joined to it
};

// Units such as <unk> or <noise>.
bool IsSymbol(std::string_view text) { return text.size() > 2 && text.front() == '<' && text.back() == '>'; }

Piece ReadPiece(std::string_view text) {
  Piece piece;
  for (; text.starts_with(kWordBoundary); text.remove_prefix(kWordBoundary.size())) piece.starts_word = true;
  for (; text.ends_with(kWordBoundary); text.remove_suffix(kWordBoundary.size())) piece.ends_word = true;
  piece.text = text;
  if (text.empty()) return piece;
  const bool symbol = IsSymbol(text);
  piece.starts_word |= symbol || StandsAlone(FirstCodePoint(text).value);
  piece.ends_word |= symbol || StandsAlone(LastCodePoint(text).value);
  return piece;
}

WordSpan MakeWord(std::span<const TokenSpan> tokens) {
  WordSpan word{{}, tokens.front().start_ms, tokens.back().end_ms, 0};
  double log_sum = 0;
  for (const TokenSpan& token : tokens) {
    word.text += ReadPiece(token.text).text;
    log_sum += std::log(token.confidence);  // log(0) = -inf gives 0 in the end, which is meant
  }
  word.confidence = std::exp(log_sum / static_cast<double>(tokens.size()));
  return word;
}

}  // namespace

Result<std::vector<TokenSpan>> MakeTokenSpans(const TokenTable& table, std::span<const int32_t> ids,
                                              std::span<const int32_t> peak_frames, std::span<const double> confidences,
                                              const TokenTimeOptions& options) {
  TING_RETURN_IF_ERROR(CheckInputs(table, ids, peak_frames, confidences, options));
  const PeakTimes times{peak_frames, options};
  const int64_t offset_ms = times.Ms(options.first_frame);
  std::vector<TokenSpan> spans(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    spans[i].id = ids[i];
    spans[i].text = table.text(ids[i]);
    if (!confidences.empty()) spans[i].confidence = confidences[i];
    if (peak_frames.empty()) continue;
    spans[i].peak_frame = options.first_frame + peak_frames[i];
    spans[i].start_ms = static_cast<int32_t>(offset_ms + times.Start(i));
    spans[i].end_ms = static_cast<int32_t>(offset_ms + times.End(i));
  }
  return spans;
}

std::vector<WordSpan> MakeWordSpans(std::span<const TokenSpan> tokens) {
  std::vector<WordSpan> words;
  size_t first = 0;  // of the word that is open: tokens[first, i)
  const auto close = [&](size_t end) {
    if (end > first) words.push_back(MakeWord(tokens.subspan(first, end - first)));
    first = end;
  };
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Piece piece = ReadPiece(tokens[i].text);
    if (piece.starts_word || piece.text.empty()) close(i);
    if (piece.text.empty()) {
      first = i + 1;
    } else if (piece.ends_word) {
      close(i + 1);
    }
  }
  close(tokens.size());
  return words;
}

}  // namespace ting
