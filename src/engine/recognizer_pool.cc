// src/engine/recognizer_pool.cc
// SPDX-License-Identifier: Apache-2.0
//
// The queue and its lanes; knows recognisers only by their interface (RecognizerPool::Load is in load_pool.cc).
#include "ting/recognizer_pool.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <tuple>

#include "base/status_macros.h"

namespace ting {
namespace {

// A batch that a third device goes with is more likely the cause than in bad company.
constexpr int kMaxLosses = 3;

RecognizedBatch AnswerOf(size_t size, const Status& status) {
  RecognizedBatch answer;
  answer.results.resize(size);
  for (RecognitionResult& result : answer.results) result.status = status;
  answer.cancelled = status.code() == StatusCode::kCancelled;
  return answer;
}

RecognizedBatch Recognize(Recognizer& recognizer, std::span<const Audio> batch, const DecodeOptions& options) {
  RecognizedBatch answer;
  const auto start = std::chrono::steady_clock::now();
  answer.results = recognizer.Recognize(batch, options, &answer.stages);
  answer.wall_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return answer;
}

// OK, or that the device went away.
Status LossIn(const RecognizedBatch& answer) {
  for (const RecognitionResult& result : answer.results) {
    if (result.status.code() == StatusCode::kUnavailable) return result.status;
  }
  return Status();
}

}  // namespace

RecognizerPool::RecognizerPool(std::vector<Lane> lanes) : lanes_(std::move(lanes)) {
  std::set<std::string> devices;
  for (const Lane& lane : lanes_) devices.insert(lane.device);
  num_devices_ = devices.size();
  for (Lane& lane : lanes_) threads_.emplace_back([this, &lane] { Work(lane); });
}

RecognizerPool::~RecognizerPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  CancelWaiting();
}

std::future<RecognizedBatch> RecognizerPool::Submit(std::span<const Audio> batch, const DecodeOptions& options) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [&] { return waiting_.size() < lanes_.size(); });
  Job& job = waiting_.emplace_back(Job{batch, options, {}});
  std::future<RecognizedBatch> answer = job.answer.get_future();
  if (losses_.size() == num_devices_) AnswerWaiting(losses_.back());
  lock.unlock();
  work_.notify_one();
  return answer;
}

void RecognizerPool::CancelWaiting() {
  const std::lock_guard lock(mutex_);
  AnswerWaiting(Cancelled("cancelled before it was begun"));
}

void RecognizerPool::AnswerWaiting(const Status& status) {
  for (Job& job : waiting_) job.answer.set_value(AnswerOf(job.batch.size(), status));
  waiting_.clear();
  room_.notify_all();
}

void RecognizerPool::Work(Lane& lane) {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return stop_ || IsLost(lane) || !waiting_.empty(); });
    if (stop_ || IsLost(lane)) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    room_.notify_one();
    RecognizedBatch answer = Recognize(*lane.recognizer, job.batch, job.options);
    const Status loss = LossIn(answer);
    lock.lock();
    if (loss.ok()) {
      job.answer.set_value(std::move(answer));
      continue;
    }
    Lose(lane, loss);
    PutBack(std::move(job), std::move(answer));
  }
}

void RecognizerPool::Lose(const Lane& lane, const Status& why) {
  if (!lost_.try_emplace(lane.device, why).second) return;  // another lane has told
  losses_.push_back(why.WithContext(lane.device));
  if (losses_.size() == num_devices_) AnswerWaiting(losses_.back());
  work_.notify_all();  // the lost lanes end; the batch that another may have been woken for is for the others
}

// To the front: what was submitted before is done before.
void RecognizerPool::PutBack(Job job, RecognizedBatch failed) {
  if (losses_.size() == num_devices_ || ++job.losses == kMaxLosses) {
    job.answer.set_value(std::move(failed));
    return;
  }
  waiting_.push_front(std::move(job));
  work_.notify_all();
}

std::vector<std::span<const Audio>> CutBatches(std::span<const Audio> audio, const BatchLimits& limits) {
  std::vector<std::span<const Audio>> batches;
  const auto most = static_cast<size_t>(std::max(limits.recordings, 1));
  for (size_t first = 0, next = 0; first < audio.size(); first = next) {
    double seconds = audio[next++].seconds();
    while (next < audio.size() && next - first < most && seconds + audio[next].seconds() <= limits.seconds) {
      seconds += audio[next++].seconds();
    }
    batches.push_back(audio.subspan(first, next - first));
  }
  return batches;
}

std::vector<RecognizedBatch> RecognizerPool::RecognizeAll(std::span<const Audio> audio, const BatchLimits& limits,
                                                          const DecodeOptions& options) {
  std::vector<std::future<RecognizedBatch>> answers;
  for (const std::span<const Audio> batch : CutBatches(audio, limits)) answers.push_back(Submit(batch, options));
  std::vector<RecognizedBatch> batches;
  for (std::future<RecognizedBatch>& answer : answers) batches.push_back(answer.get());
  return batches;
}

Result<std::unique_ptr<RecognizerPool>> RecognizerPool::Clone() const {
  std::vector<Lane> lanes;
  for (const Lane& lane : lanes_) {
    TING_ASSIGN_OR_RETURN(auto recognizer, lane.recognizer->Clone());
    lanes.push_back({std::move(recognizer), lane.device, lane.num_threads});
  }
  return std::make_unique<RecognizerPool>(std::move(lanes));
}

int RecognizerPool::num_threads() const {
  int threads = 0;
  for (const Lane& lane : lanes_) threads += lane.num_threads;
  return threads;
}

std::vector<Status> RecognizerPool::Losses() const {
  const std::lock_guard lock(mutex_);
  return losses_;
}

std::vector<NodeProfile> RecognizerPool::Profile() const {
  std::map<std::tuple<std::string, std::string, std::string, std::string>, size_t> places;
  std::vector<NodeProfile> sums;
  for (const Lane& lane : lanes_) {
    for (const NodeProfile& node : lane.recognizer->Profile()) {
      const auto [it, added] = places.try_emplace({node.graph, node.node, node.op, node.implementation}, sums.size());
      if (added) sums.push_back({node.graph, node.node, node.op, node.implementation, 0, 0});
      sums[it->second].calls += node.calls, sums[it->second].total_ms += node.total_ms;
    }
  }
  return sums;
}

}  // namespace ting
