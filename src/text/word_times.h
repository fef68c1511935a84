// src/text/word_times.h
// SPDX-License-Identifier: Apache-2.0
//
// When each token and word was said. CTC gives one peak frame a token and no extent, so the extent is a rule, that of
// WeNet's C++ runtime: a token ends at its peak and starts max_token_ms before it (not before 0); where two peaks are
// closer than that, the boundary between them is their midpoint in whole frames. Words are runs of tokens
// (ting::WordSpan); a word's confidence is the geometric mean of its tokens' (their product to the power 1 / tokens),
// so that a word of five pieces and a word of one can be compared; the minimum punishes long words.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/token_table.h"
#include "ting/result.h"
#include "ting/status.h"

namespace ting {

struct TokenTimeOptions {
  int32_t frame_ms = 40;       // of one encoder frame: feature shift × subsampling
  int32_t max_token_ms = 100;  // a token is at most this long
  int32_t first_frame = 0;     // encoder frames before this part of the audio
};

// One span a token. peak_frames and confidences have ids' length, or are empty: then times (attention search knows
// none) or confidences are 0. Peaks count from first_frame; those of the spans, and their times, from the start of the
// audio.
Result<std::vector<TokenSpan>> MakeTokenSpans(const TokenTable& table, std::span<const int32_t> ids,
                                              std::span<const int32_t> peak_frames, std::span<const double> confidences,
                                              const TokenTimeOptions& options);

// A Chinese or Japanese character, a mark of East Asian punctuation and a symbol such as <unk> is a word of its own;
// any other token joins the word before it, unless one of the two has a "▁" between them. Texts are without "▁", and a
// token that is nothing else belongs to no word.
std::vector<WordSpan> MakeWordSpans(std::span<const TokenSpan> tokens);

}  // namespace ting
