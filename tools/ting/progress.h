// tools/ting/progress.h
// SPDX-License-Identifier: Apache-2.0
//
// What a person sees while files are transcribed: a bar on a terminal, and the summary at the end.
#pragma once

#include <chrono>
#include <cstddef>
#include <ostream>
#include <string>

#include "ting/result.h"

namespace ting::tool {

struct RunTotals {
  size_t num_inputs = 0;  // of this run, without those that --resume skips
  size_t num_done = 0;    // written
  size_t num_failed = 0;
  size_t num_skipped = 0;  // by --resume
  double audio_s = 0;
  double wall_s = 0;
  double waited_ms = 0;  // for audio
  StageTimes stages;
};

// " 42% [########            ] 5/12, 310.5 times real time, 0:07 left"; fits into 80 columns up to 10^6 inputs.
std::string ProgressLine(const RunTotals& totals);
// Two lines, each ending in a newline.
std::string SummaryText(const RunTotals& totals);

// Draws the line at most ten times a second, and over itself.
class ProgressBar {
 public:
  explicit ProgressBar(std::ostream* err) : err_(err) {}  // null: draws nothing
  ~ProgressBar() { Clear(); }
  void Draw(const RunTotals& totals);
  void Clear();  // before anything else is written to the terminal

 private:
  std::ostream* err_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace ting::tool
