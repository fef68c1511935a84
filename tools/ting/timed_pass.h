// tools/ting/timed_pass.h
// SPDX-License-Identifier: Apache-2.0
//
// One pass over recordings that are in memory, in their order and in batches of a fixed size: what `ting bench` and
// `ting eval` time. The clock runs from the first batch to the last, from samples to text.
#pragma once

#include <span>
#include <vector>

#include "ting/recognizer_pool.h"

namespace ting::tool {

struct TimedPass {
  double wall_ms = 0;
  StageTimes stages;
  std::vector<double> batch_ms;            // of each, in its lane
  std::vector<RecognitionResult> results;  // parallel to the audio; empty unless kept
  size_t num_failed = 0;
};

enum class Results { kKeep, kDrop };

TimedPass RunTimedPass(RecognizerPool& pool, std::span<const Audio> audio, const DecodeOptions& options,
                       const BatchLimits& limits, Results results);

}  // namespace ting::tool
