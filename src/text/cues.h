// src/text/cues.h
// SPDX-License-Identifier: Apache-2.0
//
// Timed words to the cues of subtitles. Greedy from left to right: a cue ends at a pause, after the end of a sentence,
// or where the next word would pass a limit; then it is cut, in its second half, after the last punctuation mark, or
// else before the longest pause, or else at the limit. Closing punctuation never starts a cue. A word that is longer
// than a limit by itself is a cue of its own.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/writers.h"
#include "ting/result.h"

namespace ting {

struct Cue {
  int32_t start_ms = 0;
  int32_t end_ms = 0;  // above start_ms, at most the next cue's start_ms where that is above start_ms
  std::string text;
};

std::vector<Cue> MakeCues(std::span<const WordSpan> words, int32_t audio_ms, const WriterOptions& options);

// The words as text: a space between two of them unless one is a CJK character or punctuation mark.
std::string JoinWords(std::span<const WordSpan> words);

}  // namespace ting
