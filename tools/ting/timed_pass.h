// tools/ting/timed_pass.h
// SPDX-License-Identifier: Apache-2.0
//
// One pass over recordings that are in memory, in their order and in batches of a fixed size: what `ting bench` and
// `ting eval` time. The clock covers Recognize alone, from samples to text. Several lanes (recognisers of one model)
// take batches in turn; the clock then runs from the first batch to the last.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ting/recognizer.h"

namespace ting::tool {

struct TimedPass {
  double wall_ms = 0;
  StageTimes stages;
  std::vector<double> batch_ms;            // a call of Recognize each
  std::vector<RecognitionResult> results;  // parallel to the audio; empty unless kept
  size_t num_failed = 0;
};

enum class Results { kKeep, kDrop };

using Lanes = std::vector<std::unique_ptr<Recognizer>>;
// `first` and clones of it, `count` in all.
Result<Lanes> MakeLanes(std::unique_ptr<Recognizer> first, int count);

TimedPass RunTimedPass(const Lanes& lanes, std::span<const Audio> audio, const DecodeOptions& options, int batch,
                       Results results);

}  // namespace ting::tool
