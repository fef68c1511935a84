// tools/ting/timed_pass.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/timed_pass.h"

#include <iterator>

#include "tools/ting/statistics.h"

namespace ting::tool {

TimedPass RunTimedPass(RecognizerPool& pool, std::span<const Audio> audio, const DecodeOptions& options,
                       const BatchLimits& limits, Results keep) {
  TimedPass timed;
  const Stopwatch watch;
  std::vector<RecognizedBatch> batches = pool.RecognizeAll(audio, limits, options);
  timed.wall_ms = watch.ms();
  for (RecognizedBatch& done : batches) {
    timed.stages += done.stages;
    timed.batch_ms.push_back(done.wall_ms);
    for (const RecognitionResult& result : done.results) timed.num_failed += result.status.ok() ? 0 : 1;
    if (keep == Results::kDrop) continue;
    std::move(done.results.begin(), done.results.end(), std::back_inserter(timed.results));
  }
  return timed;
}

}  // namespace ting::tool
