// tools/ting/scoring.h
// SPDX-License-Identifier: Apache-2.0
//
// Texts against references (WeNet's compute-wer) and against another system's transcripts.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "ting/options.h"
#include "ting/result.h"
#include "tools/ting/inputs.h"

namespace ting::tool {

struct Score {
  std::string report;   // compute-wer --char=1 --v=1
  std::string overall;  // its line "Overall -> 9.43 % N=… C=… S=… D=… I=…"
  double rate_percent = 0;
  int64_t num_skipped = 0;  // references without a hypothesis, which WeNet's scorer does not count as deletions
  int64_t num_tokens = 0, correct = 0, substitutions = 0, deletions = 0, insertions = 0;
};

Result<Score> ScoreTranscripts(const Transcripts& references, const Transcripts& hypotheses);

// Transcripts of PyTorch WeNet: "clip<TAB>greedy<TAB>prefix beam<TAB>rescoring" a line.
class Golden {
 public:
  static Result<Golden> Load(const std::string& path);
  static bool HasMode(DecodeMode mode) { return mode != DecodeMode::kAttention; }
  // Null where the golden does not have the clip.
  const std::string* Find(const std::string& key, DecodeMode mode) const;

 private:
  std::unordered_map<std::string, std::vector<std::string>> rows_;
};

struct Comparison {
  size_t num_compared = 0, num_different = 0, num_unknown = 0;  // unknown: not in the golden
  std::string lines;  // one a differing utterance, with the gap between our best two scores
};

struct KeyedResult {
  std::string key;
  const RecognitionResult* result;
};
// `mode` must be one that the golden has. A small gap tells a near-tie that another order of float additions decides
// the other way; a large one is a defect.
Comparison Compare(const Golden& golden, DecodeMode mode, const std::vector<KeyedResult>& results);

}  // namespace ting::tool
