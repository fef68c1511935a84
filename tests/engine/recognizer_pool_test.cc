// tests/engine/recognizer_pool_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The queue and the lanes of a pool, with recognisers that do as they are told: a recording's text is its first sample.
// Run it under ThreadSanitizer, too (preset cpu-thread).
#include "ting/recognizer_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "base/status_macros.h"

namespace ting {
namespace {

// What the test says to the recognisers, and they to it.
class Stage {
 public:
  // The next `count` calls may go on.
  void Allow(int count) {
    const std::lock_guard lock(mutex_);
    allowed_ += count;
    changed_.notify_all();
  }
  void AwaitBegun(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return static_cast<int>(begun_.size()) >= count; });
  }
  // First samples of the batches, in the order in which they were begun.
  std::vector<int> begun() {
    const std::lock_guard lock(mutex_);
    return begun_;
  }
  void Begin(int batch) {
    std::unique_lock lock(mutex_);
    begun_.push_back(batch);
    changed_.notify_all();
    changed_.wait(lock, [&] { return allowed_ > 0; });
    --allowed_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int allowed_ = 0;
  std::vector<int> begun_;
};

struct FakeOptions {
  Stage* stage = nullptr;                // null: nothing to wait for
  std::atomic<int>* failures = nullptr;  // so many calls, of all recognisers together, find their device gone
  StatusCode code = StatusCode::kUnavailable;
};

class FakeRecognizer : public Recognizer {
 public:
  using Recognizer::Recognize;
  explicit FakeRecognizer(const FakeOptions& options) : options_(options) { info_.family = "fake"; }
  const ModelInfo& info() const override { return info_; }
  Result<std::unique_ptr<Recognizer>> Clone() override {
    return std::unique_ptr<Recognizer>(std::make_unique<FakeRecognizer>(options_));
  }
  std::vector<RecognitionResult> Recognize(std::span<const Audio> batch, const DecodeOptions&,
                                           StageTimes* times) override {
    ++calls_;
    if (options_.stage != nullptr) options_.stage->Begin(static_cast<int>(batch[0].samples[0]));
    std::vector<RecognitionResult> results(batch.size());
    times->encoder_ms += 1;
    if (options_.failures != nullptr && options_.failures->fetch_sub(1) > 0) {
      for (RecognitionResult& result : results) result.status = Status(options_.code, "it broke");
      return results;
    }
    for (size_t i = 0; i < batch.size(); ++i) {
      results[i].nbest.emplace_back().text = std::to_string(static_cast<int>(batch[i].samples[0]));
    }
    return results;
  }
  Result<std::vector<float>> Features(const Audio&) override { return Unimplemented("no features in a fake"); }
  Result<std::vector<float>> CtcLogProbs(std::span<const float>, const DecodeOptions&) override {
    return Unimplemented("no log-probabilities in a fake");
  }
  std::vector<NodeProfile> Profile() const override { return {{"encoder", "ffn", "feed_forward", "cpu", calls_, 2.0}}; }
  Result<std::vector<NodeDispatch>> Dispatch() const override {
    return std::vector<NodeDispatch>{{"encoder", "ffn", "feed_forward", "cpu", {}}};
  }
  std::string GraphText() const override { return ""; }

 private:
  FakeOptions options_;
  ModelInfo info_;
  int64_t calls_ = 0;
};

// A lane on each of `devices`.
std::vector<RecognizerPool::Lane> MakeLanes(const std::vector<std::string>& devices, const FakeOptions& options) {
  std::vector<RecognizerPool::Lane> lanes;
  for (const std::string& device : devices) lanes.push_back({std::make_unique<FakeRecognizer>(options), device});
  return lanes;
}

std::vector<Audio> Numbered(int count) {
  std::vector<Audio> audio(count);
  for (int i = 0; i < count; ++i) audio[i].samples = {static_cast<float>(i)};
  return audio;
}

// The texts of all batches one after the other, "!" where one failed.
std::vector<std::string> TextsOf(const std::vector<RecognizedBatch>& batches) {
  std::vector<std::string> texts;
  for (const RecognizedBatch& batch : batches) {
    for (const RecognitionResult& result : batch.results) {
      texts.push_back(result.status.ok() ? result.nbest[0].text : "!");
    }
  }
  return texts;
}

std::vector<std::string> Numbers(int count) {
  std::vector<std::string> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(std::to_string(i));
  return numbers;
}

TEST(RecognizerPool, ResultsComeInTheOrderOfTheInputs) {
  RecognizerPool pool(MakeLanes({"cpu", "cpu", "cpu", "cpu"}, {}));
  EXPECT_EQ(pool.num_lanes(), 4);
  EXPECT_EQ(pool.info().family, "fake");
  const std::vector<Audio> audio = Numbered(1001);
  const std::vector<RecognizedBatch> batches = pool.RecognizeAll(audio, {2}, {});
  ASSERT_EQ(batches.size(), 501U);
  EXPECT_EQ(batches.back().results.size(), 1U);
  EXPECT_EQ(batches[0].stages.encoder_ms, 1);
  EXPECT_EQ(TextsOf(batches), Numbers(1001));
  EXPECT_TRUE(pool.Losses().empty());
  const std::vector<NodeProfile> profile = pool.Profile();
  ASSERT_EQ(profile.size(), 1U);
  EXPECT_EQ(profile[0].calls, 501);
  EXPECT_EQ(profile[0].total_ms, 8);
  EXPECT_TRUE(pool.RecognizeAll({}, {2}, {}).empty());
}

TEST(CutBatches, AreClosedByEitherLimit) {
  const auto sizes = [](std::span<const Audio> audio, const BatchLimits& limits) {
    std::vector<size_t> sizes;
    for (const std::span<const Audio> batch : CutBatches(audio, limits)) sizes.push_back(batch.size());
    return sizes;
  };
  std::vector<Audio> audio;
  for (const int tenths : {30, 20, 50, 1, 120, 1, 1, 1, 1}) {
    audio.push_back({.samples = std::vector<float>(1600 * tenths), .sample_rate_hz = 16000});
  }
  using Sizes = std::vector<size_t>;
  EXPECT_EQ(sizes(audio, {4}), Sizes({4, 4, 1}));
  EXPECT_EQ(sizes(audio, {4, 10}), Sizes({3, 1, 1, 4}));
  EXPECT_EQ(sizes(audio, {100, 9.99}), Sizes({2, 2, 1, 4}));
  EXPECT_EQ(sizes(audio, {100, 0.05}), Sizes(9, 1));
  EXPECT_EQ(sizes(audio, {0}), Sizes(9, 1));
  EXPECT_TRUE(sizes({}, {4}).empty());
}

TEST(RecognizerPool, ACloneHasLanesOfItsOwn) {
  RecognizerPool pool(MakeLanes({"cuda:0", "cuda:0", "cuda:1"}, {}));
  EXPECT_EQ(pool.num_devices(), 2);
  const auto clone = pool.Clone();
  ASSERT_TRUE(clone.ok()) << clone.status().ToString();
  EXPECT_EQ((*clone)->num_lanes(), 3);
  EXPECT_EQ((*clone)->num_devices(), 2);
  const std::vector<Audio> audio = Numbered(7);
  EXPECT_EQ(TextsOf((*clone)->RecognizeAll(audio, {2}, {})), Numbers(7));
  EXPECT_EQ((*clone)->Profile()[0].calls, 4);
  EXPECT_EQ(pool.Profile()[0].calls, 0);
  EXPECT_EQ((*pool.Dispatch())[0].op, "feed_forward");
}

TEST(RecognizerPool, ManyThreadsMaySubmit) {
  RecognizerPool pool(MakeLanes({"cpu", "cpu", "cpu"}, {}));
  const std::vector<Audio> audio = Numbered(200);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] { wrong += TextsOf(pool.RecognizeAll(audio, {3}, {})) != Numbers(200); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(RecognizerPool, BatchesAreBegunInOrderAndTheQueueIsBounded) {
  Stage stage;
  RecognizerPool pool(MakeLanes({"cpu", "cpu"}, {&stage}));
  ASSERT_EQ(pool.capacity(), 4);
  const std::vector<Audio> audio = Numbered(5);
  std::vector<std::future<RecognizedBatch>> answers;
  for (int i = 0; i < 4; ++i) answers.push_back(pool.Submit({&audio[i], 1}, {}));  // two begun, two wait
  stage.AwaitBegun(2);
  std::atomic<bool> submitted = false;
  std::thread fifth([&] {
    answers.push_back(pool.Submit({&audio[4], 1}, {}));
    submitted = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(submitted) << "there was no room";
  stage.Allow(1);
  fifth.join();
  for (int begun = 3; begun <= 5; ++begun) {
    stage.AwaitBegun(begun);
    stage.Allow(1);
  }
  stage.Allow(1);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(answers[i].get().results[0].nbest[0].text, std::to_string(i));
  std::vector<int> begun = stage.begun();
  std::sort(begun.begin(), begun.begin() + 2);  // the first two at once
  EXPECT_EQ(begun, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(RecognizerPool, WhatALostDeviceHadIsDoneByTheOthers) {
  for (const int size : {1, 3}) {
    std::atomic<int> failures = 1;
    RecognizerPool pool(MakeLanes({"cuda:0", "cuda:1"}, {.failures = &failures}));
    const std::vector<RecognizedBatch> batches = pool.RecognizeAll(Numbered(40), {size}, {});
    EXPECT_EQ(TextsOf(batches), Numbers(40));
    const std::vector<Status> losses = pool.Losses();
    ASSERT_EQ(losses.size(), 1U);
    EXPECT_TRUE(losses[0].message().starts_with("cuda:")) << losses[0].message();
    EXPECT_TRUE(losses[0].message().ends_with(": it broke"));
  }
}

// Both lanes of one device are at work when it goes: each batch is done again, and the loss is told once.
TEST(RecognizerPool, LanesOfOneDeviceAreLostTogether) {
  Stage stage;
  std::atomic<int> failures = 100;
  std::vector<RecognizerPool::Lane> lanes = MakeLanes({"cuda:0", "cuda:0"}, {&stage, &failures});
  Stage other;
  lanes.push_back(std::move(MakeLanes({"cuda:1"}, {&other})[0]));
  RecognizerPool pool(std::move(lanes));
  const std::vector<Audio> audio = Numbered(6);
  std::vector<std::future<RecognizedBatch>> answers;
  for (int i = 0; i < 6; ++i) answers.push_back(pool.Submit({&audio[i], 1}, {}));
  stage.AwaitBegun(2);
  stage.Allow(2);
  other.Allow(6);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(answers[i].get().results[0].nbest[0].text, std::to_string(i));
  EXPECT_EQ(pool.Losses().size(), 1U);
  EXPECT_EQ(stage.begun().size(), 2U) << "a lost lane took another batch";
}

TEST(RecognizerPool, WithoutADeviceEveryBatchFails) {
  std::atomic<int> failures = 100;
  RecognizerPool pool(MakeLanes({"cuda:0", "cuda:1"}, {.failures = &failures}));
  const std::vector<Audio> audio = Numbered(20);
  for (int round = 0; round < 2; ++round) {
    const std::vector<RecognizedBatch> batches = pool.RecognizeAll(audio, {2}, {});
    ASSERT_EQ(batches.size(), 10U);
    for (const RecognizedBatch& batch : batches) {
      ASSERT_EQ(batch.results.size(), 2U);
      EXPECT_FALSE(batch.cancelled);
      EXPECT_EQ(batch.results[1].status.code(), StatusCode::kUnavailable);
    }
  }
  EXPECT_EQ(pool.Losses().size(), 2U);
}

// A batch that takes every device with it must not end the run for the others.
TEST(RecognizerPool, ABatchIsTriedOnThreeDevicesAtMost) {
  Stage stage;
  std::atomic<int> failures = 3;
  RecognizerPool pool(MakeLanes({"cuda:0", "cuda:1", "cuda:2", "cuda:3"}, {&stage, &failures}));
  const std::vector<Audio> audio = Numbered(2);
  std::future<RecognizedBatch> poison = pool.Submit({&audio[0], 1}, {});
  stage.Allow(3);
  EXPECT_EQ(poison.get().results[0].status.message(), "it broke");
  stage.Allow(1);
  EXPECT_EQ(pool.Submit({&audio[1], 1}, {}).get().results[0].nbest[0].text, "1");
  EXPECT_EQ(pool.Losses().size(), 3U);
}

TEST(RecognizerPool, OtherFailuresAreTheBatchsOwn) {
  for (const StatusCode code : {StatusCode::kInvalidArgument, StatusCode::kResourceExhausted, StatusCode::kInternal}) {
    std::atomic<int> failures = 1;
    RecognizerPool pool(MakeLanes({"cuda:0", "cuda:1"}, {nullptr, &failures, code}));
    const std::vector<std::string> texts = TextsOf(pool.RecognizeAll(Numbered(20), {1}, {}));
    EXPECT_EQ(std::count(texts.begin(), texts.end(), "!"), 1);
    EXPECT_TRUE(pool.Losses().empty());
  }
}

TEST(RecognizerPool, CancellingLeavesWhatIsBegun) {
  Stage stage;
  RecognizerPool pool(MakeLanes({"cpu"}, {&stage}));
  const std::vector<Audio> audio = Numbered(3);
  std::future<RecognizedBatch> begun = pool.Submit({&audio[0], 1}, {});
  stage.AwaitBegun(1);
  std::future<RecognizedBatch> waiting = pool.Submit({&audio[1], 2}, {});
  pool.CancelWaiting();
  const RecognizedBatch cancelled = waiting.get();
  EXPECT_TRUE(cancelled.cancelled);
  ASSERT_EQ(cancelled.results.size(), 2U);
  EXPECT_EQ(cancelled.results[1].status.code(), StatusCode::kCancelled);
  stage.Allow(2);
  EXPECT_EQ(begun.get().results[0].nbest[0].text, "0");
  EXPECT_EQ(pool.Submit({&audio[2], 1}, {}).get().results[0].nbest[0].text, "2");
}

TEST(RecognizerPool, EndingAnswersEverything) {
  Stage stage;
  const std::vector<Audio> audio = Numbered(2);
  std::future<RecognizedBatch> begun, waiting;
  std::thread ending;
  {
    RecognizerPool pool(MakeLanes({"cpu"}, {&stage}));
    begun = pool.Submit({&audio[0], 1}, {});
    stage.AwaitBegun(1);
    waiting = pool.Submit({&audio[1], 1}, {});
    ending = std::thread([&] { stage.Allow(2); });
  }
  ending.join();
  EXPECT_EQ(begun.get().results[0].nbest[0].text, "0");
  const RecognizedBatch last = waiting.get();  // the lane may have been free before the pool ended
  EXPECT_TRUE(last.cancelled || last.results[0].nbest[0].text == "1");
}

}  // namespace
}  // namespace ting
