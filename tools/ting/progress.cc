// tools/ting/progress.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/progress.h"

#include <fmt/core.h>

namespace ting::tool {
namespace {

constexpr int kBarWidth = 20;

double RealTimeFactor(const RunTotals& t) { return t.wall_s > 0 ? t.audio_s / t.wall_s : 0; }

// 75 s -> "1:15", 3,700 s -> "1:01:40".
std::string Clock(double seconds) {
  const auto s = static_cast<long long>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

std::string ProgressLine(const RunTotals& totals) {
  const size_t finished = totals.num_done + totals.num_failed;
  const double share = totals.num_inputs > 0 ? static_cast<double>(finished) / totals.num_inputs : 1.0;
  const int filled = static_cast<int>(share * kBarWidth);
  std::string line =
      fmt::format("{:3.0f}% [{:<{}}] {}/{}, {:.1f} times real time", share * 100, std::string(filled, '#'), kBarWidth,
                  finished, totals.num_inputs, RealTimeFactor(totals));
  if (finished > 0) line += fmt::format(", {} left", Clock(totals.wall_s * (1 - share) / share));
  return line;
}

std::string SummaryText(const RunTotals& totals) {
  std::string text = fmt::format("{} of {} transcribed", totals.num_done, totals.num_inputs);
  if (totals.num_failed > 0) text += fmt::format(", {} failed", totals.num_failed);
  if (totals.num_skipped > 0) text += fmt::format(", {} skipped (already in the output)", totals.num_skipped);
  text += fmt::format(": {:.1f} s of audio in {:.2f} s, {:.1f} times real time\n", totals.audio_s, totals.wall_s,
                      RealTimeFactor(totals));
  const StageTimes& t = totals.stages;
  return text + fmt::format(
                    "features {:.0f} ms, encoder {:.0f} ms, search {:.0f} ms, decoder {:.0f} ms, text {:.0f} ms, "
                    "waiting for audio {:.0f} ms\n",
                    t.frontend_ms, t.encoder_ms, t.search_ms, t.decoder_ms, t.text_ms, totals.waited_ms);
}

void ProgressBar::Draw(const RunTotals& totals) {
  const auto now = std::chrono::steady_clock::now();
  if (err_ == nullptr || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  *err_ << '\r' << ProgressLine(totals) << "\x1b[K" << std::flush;  // ESC [ K: to the end of the line
}

void ProgressBar::Clear() {
  if (!drawn_) return;
  *err_ << "\r\x1b[K" << std::flush;
  drawn_ = false;
  last_ = {};
}

}  // namespace ting::tool
