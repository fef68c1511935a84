// src/text/compute_wer.h
// SPDX-License-Identifier: Apache-2.0
//
// Word and character error rates as WeNet's tools/compute-wer.py prints them, byte by byte: published WeNet figures
// come from that script, so a different tokenisation, or another choice between alignments of equal cost, would make
// figures that cannot be compared. Its habits are kept: an utterance without a hypothesis is skipped, not counted as
// deleted (missing_hypotheses tells how many were), and in character mode the id is the line's first token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ting/status.h"

namespace ting {

struct WerOptions {
  bool characters = true;       // --char=1: CJK characters are tokens; false: tokens are separated by spaces
  bool case_sensitive = false;  // --cs
  bool strip_tags = true;       // --rt: "<...>" is removed
  std::unordered_set<std::string> ignore_words;  // --ig
};

struct WerCounts {
  int64_t reference_tokens = 0;  // N
  int64_t correct = 0;
  int64_t substitutions = 0;
  int64_t deletions = 0;
  int64_t insertions = 0;

  int64_t errors() const { return substitutions + deletions + insertions; }
  // In percent; 0 when there is no reference token.
  double rate() const;
  bool operator==(const WerCounts&) const = default;
};

struct UtteranceWer {
  std::string id;
  WerCounts counts;
  // The alignment: same length, "" where the other side has a token that this one lacks.
  std::vector<std::string> reference;
  std::vector<std::string> hypothesis;
};

struct WerReport {
  std::vector<UtteranceWer> utterances;  // in the order of the references
  WerCounts overall;
  std::vector<std::pair<std::string, WerCounts>> clusters;  // "Mandarin", "English", ...: in order of appearance
  int64_t missing_hypotheses = 0;                           // references that were skipped
};

// Both texts are the contents of files of "id text" lines, UTF-8 (otherwise the line is named in the error).
Result<WerReport> ComputeWer(std::string_view references, std::string_view hypotheses, const WerOptions& options = {});

// kSummary: the Overall line (--v=0). kFull: every utterance with its alignment, then the totals (--v=1).
enum class WerDetail { kSummary, kFull };
std::string FormatWerReport(const WerReport& report, WerDetail detail = WerDetail::kFull);

}  // namespace ting
