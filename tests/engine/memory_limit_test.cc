// tests/engine/memory_limit_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// A device with too little memory for a batch: the batch is halved until its parts fit, and the answers are the same.
#include <gtest/gtest.h>

#include "base/status_macros.h"
#include "engine/u2_recognizer.h"
#include "tests/engine/golden_set.h"

namespace ting {
namespace {

struct Memory {
  size_t limit = SIZE_MAX, used = 0, peak = 0;
  int refusals = 0;
};

class CountedBuffer : public DeviceBuffer {
 public:
  CountedBuffer(std::unique_ptr<DeviceBuffer> buffer, Memory& memory) : buffer_(std::move(buffer)), memory_(memory) {}
  ~CountedBuffer() override { memory_.used -= buffer_->size(); }
  std::byte* data() override { return buffer_->data(); }
  size_t size() const override { return buffer_->size(); }

 private:
  std::unique_ptr<DeviceBuffer> buffer_;
  Memory& memory_;
};

// The CPU, with a limit on what it gives out.
class LimitedDevice : public Device {
 public:
  LimitedDevice(ThreadPool& pool, Memory& memory)
      : host_(std::move(CreateCpuDevice("cpu", pool)).value()), memory_(memory) {}
  const std::string& name() const override { return host_->name(); }
  std::span<const KernelEntry> kernels() const override { return host_->kernels(); }
  Result<std::unique_ptr<Stream>> CreateStream() override { return host_->CreateStream(); }
  Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) override {
    TING_ASSIGN_OR_RETURN(auto buffer, host_->Allocate(bytes));
    if (memory_.used + buffer->size() > memory_.limit) {
      ++memory_.refusals;
      return ResourceExhausted("no room for {} bytes", bytes);
    }
    memory_.used += buffer->size();
    memory_.peak = std::max(memory_.peak, memory_.used);
    return std::unique_ptr<DeviceBuffer>(std::make_unique<CountedBuffer>(std::move(buffer), memory_));
  }

 private:
  std::unique_ptr<Device> host_;
  Memory& memory_;
};

class MemoryLimitTest : public ::testing::Test {
 protected:
  std::unique_ptr<Recognizer> Make() {
    auto created = U2Recognizer::Create(model_, std::make_shared<LimitedDevice>(pool_, memory_), {.num_threads = 1});
    return std::move(created).value();
  }
  static void ExpectSame(const std::vector<RecognitionResult>& actual, const std::vector<RecognitionResult>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_TRUE(actual[i].status.ok()) << actual[i].status.ToString();
      EXPECT_EQ(actual[i].nbest[0].text, expected[i].nbest[0].text);
      EXPECT_EQ(actual[i].nbest[0].score, expected[i].nbest[0].score);
    }
  }

  const testing::GoldenSet set_{testing::ShippedGoldens()};
  const std::shared_ptr<const U2Model> model_ =
      std::make_shared<const U2Model>(std::move(LoadU2Model(set_.model_dir, std::nullopt)).value());
  ThreadPool pool_{1};
  Memory memory_;
};

TEST_F(MemoryLimitTest, ABatchThatDoesNotFitIsHalved) {
  const auto expected = Make()->Recognize(set_.audio, {});
  const size_t whole = memory_.peak;
  for (const double share : {0.8, 0.6, 0.4}) {
    memory_.limit = static_cast<size_t>(static_cast<double>(whole) * share);
    memory_.refusals = 0;
    const auto recognizer = Make();
    ExpectSame(recognizer->Recognize(set_.audio, {}), expected);
    const int refusals = memory_.refusals;
    EXPECT_GT(refusals, 0) << share;
    ExpectSame(recognizer->Recognize(set_.audio, {}), expected);
    EXPECT_EQ(memory_.refusals, refusals) << "the size that did not fit was tried again";
  }
  EXPECT_EQ(memory_.used, 0U);
}

// What an earlier batch needed must not stand in the way of a long recording.
TEST_F(MemoryLimitTest, OneRecordingHasTheMemoryForItself) {
  Audio longest;
  for (const Audio& audio : set_.audio) {
    longest.samples.insert(longest.samples.end(), audio.samples.begin(), audio.samples.end());
  }
  DecodeOptions greedy;
  greedy.mode = DecodeMode::kGreedy;
  const auto expected = Make()->Recognize({&longest, 1}, greedy);
  ASSERT_TRUE(Make()->Recognize({set_.audio.data(), 1}, {})[0].status.ok());
  memory_.limit = memory_.peak + memory_.peak / 20;  // for either of the two
  const auto recognizer = Make();
  ASSERT_TRUE(recognizer->Recognize({set_.audio.data(), 1}, {})[0].status.ok());
  ExpectSame(recognizer->Recognize({&longest, 1}, greedy), expected);
  EXPECT_GT(memory_.refusals, 0) << "the decoders' memory left room";
}

TEST_F(MemoryLimitTest, WhatCannotFitSaysSo) {
  memory_.limit = 1 << 10;
  const auto recognizer = Make();
  for (const RecognitionResult& result : recognizer->Recognize(set_.audio, {})) {
    EXPECT_EQ(result.status.code(), StatusCode::kResourceExhausted);
    EXPECT_NE(result.status.message().find("no room for"), std::string::npos) << result.status.message();
  }
}

}  // namespace
}  // namespace ting
