// tests/tools/audio_reader_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/audio_reader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "base/status_macros.h"

namespace ting::tool {
namespace {

std::vector<Input> MakeInputs(int count) {
  std::vector<Input> inputs;
  for (int i = 0; i < count; ++i) inputs.push_back({fmt::format("u{}", i), fmt::format("{}", i), std::nullopt, {}});
  return inputs;
}

// The number in an input's path, as one second of audio.
Result<Audio> ReadNumber(const Input& input) { return Audio{std::vector<float>(16000, std::stof(input.path)), 16000}; }

TEST(AudioReader, HandsOutInOrderWhateverTheThreadsDo) {
  const auto inputs = MakeInputs(50);
  AudioReader reader(inputs,
                     [](const Input& input) {
                       std::this_thread::sleep_for(std::chrono::microseconds(std::stoi(input.path) % 7 * 300));
                       return ReadNumber(input);
                     },
                     {.ahead = 8, .num_threads = 4});
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto item = reader.Next();
    ASSERT_TRUE(item.has_value());
    EXPECT_EQ(item->index, i);
    EXPECT_EQ(item->audio->samples[0], static_cast<float>(i));
  }
  EXPECT_FALSE(reader.Next().has_value());
  EXPECT_FALSE(reader.Next().has_value());
}

// Waits until `count` has stood still for a while: the readers have gone as far as they may.
int Settled(const std::atomic<int>& count) {
  for (int before = -1; before != count;) {
    before = count;
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  return count;
}

TEST(AudioReader, ReadsAheadButNotFurtherThanItMay) {
  const auto inputs = MakeInputs(40);
  std::atomic<int> num_read = 0;
  const auto read = [&](const Input& input) { return ++num_read, ReadNumber(input); };
  AudioReader by_count(inputs, read, {.ahead = 5, .num_threads = 3});
  EXPECT_EQ(Settled(num_read), 5);
  by_count.Next();
  EXPECT_EQ(Settled(num_read), 6);

  num_read = 0;
  AudioReader by_seconds(inputs, read, {.ahead = 30, .ahead_seconds = 2.5});
  EXPECT_EQ(Settled(num_read), 3);  // the third passes the limit
}

TEST(AudioReader, AnOverlongRecordingIsStillRead) {
  const auto inputs = MakeInputs(3);
  AudioReader reader(inputs, ReadNumber, {.ahead = 1, .ahead_seconds = 0.1});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(reader.Next()->audio.ok());
}

TEST(AudioReader, ProblemsAndThrowsAreResults) {
  auto inputs = MakeInputs(3);
  inputs[0].problem = InvalidArgument("a pipe");
  AudioReader reader(inputs,
                     [](const Input& input) -> Result<Audio> {
                       if (input.path == "1") throw std::length_error("vector too long");
                       return ReadNumber(input);
                     },
                     {});
  EXPECT_EQ(reader.Next()->audio.status().message(), "a pipe");
  EXPECT_EQ(reader.Next()->audio.status().message(), "reading failed: vector too long");
  EXPECT_TRUE(reader.Next()->audio.ok());
}

TEST(AudioReader, CanBeAbandoned) {
  const auto inputs = MakeInputs(1000);
  std::atomic<int> num_read = 0;
  {
    AudioReader reader(inputs, [&](const Input& input) { return ++num_read, ReadNumber(input); }, {.ahead = 4});
    reader.Next();
  }
  EXPECT_LE(num_read, 5);
}

TEST(AudioReader, NothingToRead) {
  AudioReader reader({}, ReadNumber, {});
  EXPECT_FALSE(reader.Next().has_value());
}

}  // namespace
}  // namespace ting::tool
