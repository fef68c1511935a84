// tools/ting/scoring.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/scoring.h"

#include "base/status_macros.h"
#include "text/compute_wer.h"
#include "tools/ting/text_lines.h"

namespace ting::tool {
namespace {

// The scorer reads WeNet's files, so that is what it gets.
std::string ToLines(const Transcripts& transcripts) {
  std::string lines;
  for (const auto& [key, text] : transcripts) lines += key + " " + text + "\n";
  return lines;
}

std::string OverallLine(const WerReport& report) {
  const std::string summary = FormatWerReport(report, WerDetail::kSummary);
  for (const std::string_view line : SplitLines(summary)) {
    if (line.starts_with("Overall")) return std::string(line);
  }
  return summary;
}

}  // namespace

Result<Score> ScoreTranscripts(const Transcripts& references, const Transcripts& hypotheses) {
  TING_ASSIGN_OR_RETURN(const WerReport report, ComputeWer(ToLines(references), ToLines(hypotheses)));
  if (report.utterances.empty()) {
    return InvalidArgument("references and hypotheses have no key in common; compare the first columns of both");
  }
  Score score;
  score.report = FormatWerReport(report, WerDetail::kFull);
  score.overall = OverallLine(report);
  score.rate_percent = report.overall.rate();
  score.num_skipped = report.missing_hypotheses;
  score.num_tokens = report.overall.reference_tokens;
  score.correct = report.overall.correct;
  score.substitutions = report.overall.substitutions;
  score.deletions = report.overall.deletions;
  score.insertions = report.overall.insertions;
  return score;
}

}  // namespace ting::tool
