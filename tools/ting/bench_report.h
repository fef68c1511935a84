// tools/ting/bench_report.h
// SPDX-License-Identifier: Apache-2.0
//
// What `ting bench` prints: for people and, a JSON object a line, for programs.
#pragma once

#include <string>
#include <vector>

#include "ting/benchmark.h"
#include "ting/recognizer.h"
#include "tools/ting/statistics.h"

namespace ting::tool {

// Of a run over recordings.
struct BenchReport {
  double load_ms = 0, audio_s = 0, peak_rss_mb = 0;
  size_t num_utterances = 0;
  int batch = 0, num_threads = 0, num_lanes = 0, num_devices = 1;
  const char *mode = "", *precision = "";
  std::string device;
  std::vector<double> rtfx;      // a pass
  std::vector<double> batch_ms;  // of all passes
  StageTimes stages;             // of all passes

  double passes() const { return static_cast<double>(rtfx.size()); }
  double roofline_rtfx() const {  // of all devices together; 0: their peaks are not known
    return stages.total_least_ms() > 0 ? num_devices * audio_s * 1e3 * passes() / stages.total_least_ms() : 0;
  }
  double ms_per_utterance() const { return audio_s / Median(rtfx) * 1e3 / num_utterances; }
};

std::string ReportText(const BenchReport& report);
std::string ReportJson(const BenchReport& report);

// One batch size of --stages; as text: stage_table.h.
std::string StageJson(const StageBenchmark& stages);

// Times of nodes of the same graph, op and implementation together, the longest first.
std::string ProfileText(const std::vector<NodeProfile>& nodes);

}  // namespace ting::tool
