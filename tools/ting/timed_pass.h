// tools/ting/timed_pass.h
// SPDX-License-Identifier: Apache-2.0
//
// One pass over recordings that are in memory, in their order and in batches of a fixed size: what `ting bench` and
// `ting eval` time. The clock covers Recognize alone, from samples to text.
#pragma once

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

TimedPass RunTimedPass(Recognizer& recognizer, std::span<const Audio> audio, const DecodeOptions& options, int batch,
                       Results results);

}  // namespace ting::tool
