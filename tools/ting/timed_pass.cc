// tools/ting/timed_pass.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/timed_pass.h"

#include <algorithm>
#include <iterator>

#include "tools/ting/statistics.h"

namespace ting::tool {

TimedPass RunTimedPass(Recognizer& recognizer, std::span<const Audio> audio, const DecodeOptions& options, int batch,
                       Results keep) {
  TimedPass pass;
  for (size_t at = 0; at < audio.size(); at += batch) {
    const auto part = audio.subspan(at, std::min<size_t>(batch, audio.size() - at));
    const Stopwatch watch;
    std::vector<RecognitionResult> results = recognizer.Recognize(part, options, &pass.stages);
    pass.batch_ms.push_back(watch.ms());
    pass.wall_ms += pass.batch_ms.back();
    pass.num_failed += std::count_if(results.begin(), results.end(), [](const auto& r) { return !r.status.ok(); });
    if (keep == Results::kKeep) std::move(results.begin(), results.end(), std::back_inserter(pass.results));
  }
  return pass;
}

}  // namespace ting::tool
