// tools/ting/stage_table.h
// SPDX-License-Identifier: Apache-2.0
//
// What `ting bench --stages` prints, with and without the rest of the program (minimal_main.cc).
#pragma once

#include <string>

#include "base/format.h"
#include "ting/benchmark.h"

namespace ting::tool {

inline std::string StageTableHead(const std::string& model, const StageBenchmarkOptions& options) {
  return fmt::format("{}, {} frames, CTC head with the best {}; {} hypotheses of {} tokens\n", model, options.frames,
                     options.beam, options.beam, options.tokens) +
         fmt::format("{:>5} {:>12} {:>12}\n", "batch", "encoder ms", "decoder ms");
}

inline std::string StageTableRow(const StageBenchmark& r) {
  return fmt::format("{:>5} {:>12.3f} {:>12.3f}\n", r.batch, r.encoder_ms, r.decoder_ms);
}

}  // namespace ting::tool
