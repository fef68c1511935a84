// tools/ting/stage_table.h
// SPDX-License-Identifier: Apache-2.0
//
// The table that `ting bench --stages` prints, for the whole program and for the minimal one (minimal_main.cc).
#pragma once

#include <string>
#include <vector>

#include "base/format.h"
#include "ting/benchmark.h"

namespace ting::tool {

// What a line tells beside the times: the roofline of both stages, where the device's peaks are known.
struct StageLine {
  const StageBenchmark& r;
  static double Share(double least_ms, double ms) { return ms > 0 ? least_ms / ms : 0; }
  bool has_roofline() const { return r.encoder_least_ms > 0; }
  double ms() const { return r.encoder_ms + r.decoder_ms; }
  double least_ms() const { return r.encoder_least_ms + r.decoder_least_ms; }
  double share() const { return Share(least_ms(), ms()); }
  double rtfx(double of_ms) const { return of_ms > 0 ? r.audio_s * 1e3 / of_ms : 0; }
};

inline std::string StageTitle(const std::string& model, const StageBenchmarkOptions& options) {
  return fmt::format("{}, {} frames, CTC head with the best {}; {} hypotheses of {} tokens\n", model, options.frames,
                     options.beam, options.beam, options.tokens);
}

inline std::string StageHeader(bool has_roofline) {
  const std::string text = fmt::format("{:>5} {:>12} {:>12}", "batch", "encoder ms", "decoder ms");
  if (!has_roofline) return text + "\n";
  return text + fmt::format(" {:>12} {:>7} {:>12} {:>7} {:>12} {:>12} {:>7}\n", "enc roofline", "share", "dec roofline",
                            "share", "RTFx", "roofline", "share");
}

inline std::string StageText(const StageBenchmark& r) {
  const StageLine line{r};
  const std::string text = fmt::format("{:>5} {:>12.3f} {:>12.3f}", r.batch, r.encoder_ms, r.decoder_ms);
  if (!line.has_roofline()) return text + "\n";
  return text + fmt::format(" {:>12.3f} {:>6.1f}% {:>12.3f} {:>6.1f}% {:>12.0f} {:>12.0f} {:>6.1f}%\n",
                            r.encoder_least_ms, 100 * line.Share(r.encoder_least_ms, r.encoder_ms), r.decoder_least_ms,
                            100 * line.Share(r.decoder_least_ms, r.decoder_ms), line.rtfx(line.ms()),
                            line.rtfx(line.least_ms()), 100 * line.share());
}

inline std::string StageTable(const std::vector<StageBenchmark>& batches) {
  std::string text = StageHeader(!batches.empty() && StageLine{batches[0]}.has_roofline());
  for (const StageBenchmark& batch : batches) text += StageText(batch);
  return text;
}

}  // namespace ting::tool
