// tools/ting/timed_pass.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/timed_pass.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <thread>

#include "base/status_macros.h"
#include "tools/ting/statistics.h"

namespace ting::tool {
namespace {

// What one lane did.
struct LaneWork {
  StageTimes stages;
  size_t num_failed = 0;
};

class Pass {
 public:
  Pass(std::span<const Audio> audio, const DecodeOptions& options, int batch)
      : audio_(audio), options_(options), batch_(batch), batches_((audio.size() + batch - 1) / batch) {
    batch_ms.resize(batches_);
    results.resize(batches_);
  }
  // Takes the next batch until none is left.
  void RunLane(Recognizer& recognizer, LaneWork& work) {
    for (size_t i = next_++; i < batches_; i = next_++) {
      const auto part = audio_.subspan(i * batch_, std::min<size_t>(batch_, audio_.size() - i * batch_));
      const Stopwatch watch;
      results[i] = recognizer.Recognize(part, options_, &work.stages);
      batch_ms[i] = watch.ms();
      work.num_failed +=
          std::count_if(results[i].begin(), results[i].end(), [](const auto& r) { return !r.status.ok(); });
    }
  }

  std::vector<double> batch_ms;
  std::vector<std::vector<RecognitionResult>> results;  // by batch

 private:
  std::span<const Audio> audio_;
  const DecodeOptions& options_;
  int batch_;
  size_t batches_;
  std::atomic<size_t> next_ = 0;
};

}  // namespace

Result<Lanes> MakeLanes(std::unique_ptr<Recognizer> first, int count) {
  Lanes lanes;
  lanes.push_back(std::move(first));
  while (static_cast<int>(lanes.size()) < count) {
    TING_ASSIGN_OR_RETURN(auto clone, lanes[0]->Clone());
    lanes.push_back(std::move(clone));
  }
  return lanes;
}

TimedPass RunTimedPass(const Lanes& lanes, std::span<const Audio> audio, const DecodeOptions& options, int batch,
                       Results keep) {
  Pass pass(audio, options, batch);
  std::vector<LaneWork> work(lanes.size());
  const Stopwatch watch;
  std::vector<std::thread> threads;
  for (size_t i = 1; i < lanes.size(); ++i) threads.emplace_back([&, i] { pass.RunLane(*lanes[i], work[i]); });
  pass.RunLane(*lanes[0], work[0]);
  for (std::thread& thread : threads) thread.join();

  TimedPass timed;
  timed.wall_ms = watch.ms();
  for (const LaneWork& lane : work) timed.stages += lane.stages, timed.num_failed += lane.num_failed;
  if (keep == Results::kKeep) {
    for (auto& results : pass.results) std::move(results.begin(), results.end(), std::back_inserter(timed.results));
  }
  timed.batch_ms = std::move(pass.batch_ms);
  return timed;
}

}  // namespace ting::tool
