// tools/ting/clip_lengths.h
// SPDX-License-Identifier: Apache-2.0
//
// A measurement on a data set's lengths without its audio: recordings at hand are joined and cut until there is one of
// each length, so that it is speech that the searches work on. Utterance n starts with the clip after the one that
// utterance n - 1 ends in, goes on with those that follow, round and round, and ends at its length to the sample. What
// is left of a cut clip is not used: every utterance starts where a recording starts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/ting/model_options.h"

namespace ting::tool {

struct ClipLength {
  std::string key;
  int64_t samples = 0;  // at the model's rate
};

// "key<TAB>samples" a line. Bytes trusted: none.
Result<std::vector<ClipLength>> ReadClipLengths(const std::string& path);

// One recording of each length, with its key. The clips have one sample rate, and samples.
Result<Recordings> CutToLengths(const Recordings& clips, const std::vector<ClipLength>& lengths);

// Longest first, so that a batch holds similar lengths and the last batches are short ones.
void SortByLength(Recordings& recordings);

}  // namespace ting::tool
