// tests/engine/cuda_pool_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Pools on GPUs: lanes and devices change no bit, and the texts survive the loss of a GPU.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <future>

#include "tests/engine/golden_set.h"
#include "tests/engine/gpu_fault.h"
#include "tests/support/gpu_test.h"
#include "ting/recognizer_pool.h"

namespace ting {
namespace {

int NumGpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

RecognizerOptions On(const std::string& device) {
  RecognizerOptions options;
  options.device = device;
  options.num_threads = 1;
  return options;
}

// The shipped recordings so many times over.
std::vector<Audio> ManyRecordings(const testing::GoldenSet& set, int times) {
  std::vector<Audio> audio;
  for (int i = 0; i < times; ++i) audio.insert(audio.end(), set.audio.begin(), set.audio.end());
  return audio;
}

// "text score" of every recording, or what went wrong.
std::vector<std::string> LinesOf(const std::vector<RecognizedBatch>& batches, bool with_score) {
  std::vector<std::string> lines;
  for (const RecognizedBatch& batch : batches) {
    for (const RecognitionResult& result : batch.results) {
      if (!result.status.ok()) {
        lines.push_back(result.status.ToString());
      } else {
        lines.push_back(result.nbest[0].text + (with_score ? " " + std::to_string(result.nbest[0].score) : ""));
      }
    }
  }
  return lines;
}

class CudaPoolTest : public ::testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_GPU(); }
  std::vector<std::string> Run(const std::string& device, int lanes, const DecodeOptions& decode, bool with_score) {
    auto pool = RecognizerPool::Load(set_.model_dir, On(device), {lanes});
    EXPECT_TRUE(pool.ok()) << pool.status().ToString();
    if (!pool.ok()) return {};
    const auto lines = LinesOf((*pool)->RecognizeAll(audio_, {4}, decode), with_score);
    EXPECT_TRUE((*pool)->Losses().empty());
    return lines;
  }

  const testing::GoldenSet set_{testing::ShippedGoldens()};
  const std::vector<Audio> audio_ = ManyRecordings(set_, 20);
};

TEST_F(CudaPoolTest, LanesAndDevicesChangeNoBit) {
  for (const DecodeMode mode : {DecodeMode::kGreedy, DecodeMode::kPrefixBeam, DecodeMode::kRescoring}) {
    DecodeOptions decode;
    decode.mode = mode;
    EXPECT_EQ(Run("cuda:0", 1, decode, false), Run("cpu", 1, decode, false));
    const auto expected = Run("cuda:0", 1, decode, true);
    EXPECT_EQ(Run("cuda:0", 3, decode, true), expected);
    if (NumGpus() > 1) {
      EXPECT_EQ(Run("cuda:0,1", 2, decode, true), expected);
    }
  }
}

TEST_F(CudaPoolTest, BlankSkipIsTheSameOnTheCpu) {
  DecodeOptions decode;
  decode.blank_skip = 0.98F;
  EXPECT_EQ(Run("cuda:0", 2, decode, false), Run("cpu", 1, decode, false));
}

// Does something before each of its batches.
class HookedRecognizer : public Recognizer {
 public:
  using Recognizer::Recognize;
  HookedRecognizer(std::unique_ptr<Recognizer> inner, std::function<void()> hook)
      : inner_(std::move(inner)), hook_(std::move(hook)) {}
  const ModelInfo& info() const override { return inner_->info(); }
  Result<std::unique_ptr<Recognizer>> Clone() override { return inner_->Clone(); }
  std::vector<RecognitionResult> Recognize(std::span<const Audio> batch, const DecodeOptions& options,
                                           StageTimes* times) override {
    hook_();
    return inner_->Recognize(batch, options, times);
  }
  Result<std::vector<float>> Features(const Audio& audio) override { return inner_->Features(audio); }
  Result<std::vector<float>> CtcLogProbs(std::span<const float> features, const DecodeOptions& options) override {
    return inner_->CtcLogProbs(features, options);
  }
  std::vector<NodeProfile> Profile() const override { return inner_->Profile(); }
  Result<std::vector<NodeDispatch>> Dispatch() const override { return inner_->Dispatch(); }
  std::string GraphText() const override { return inner_->GraphText(); }

 private:
  std::unique_ptr<Recognizer> inner_;
  const std::function<void()> hook_;
};

// Ends the process, as its GPU is broken. 0: every recording has its text, and the loss of `lost` was told; 1: all that
// have no text say that the GPU is lost; 2: neither.
[[noreturn]] void LoseAndExit(const testing::GoldenSet& set, const std::vector<Audio>& audio, int lost, int at,
                              const std::string& other) {
  const std::string lost_name = "cuda:" + std::to_string(lost);
  std::vector<RecognizerPool::Lane> lanes;
  std::promise<void> broken;
  const std::shared_future<void> is_broken = broken.get_future().share();
  const auto break_gpu = [&, calls = 0]() mutable {
    if (++calls != at) return;
    EXPECT_TRUE(testing::BreakGpu(lost));
    broken.set_value();
  };
  auto breaking = std::move(Recognizer::Load(set.model_dir, On(lost_name))).value();
  lanes.push_back({std::move(breaking->Clone()).value(), lost_name});
  lanes.push_back({std::make_unique<HookedRecognizer>(std::move(breaking), break_gpu), lost_name});
  // Not before: it could be done with everything.
  const auto wait = [&] { is_broken.wait_for(std::chrono::minutes(1)); };
  auto expected = std::move(Recognizer::Load(set.model_dir, On(other))).value();
  lanes.push_back({std::make_unique<HookedRecognizer>(std::move(expected->Clone()).value(), wait), other});
  RecognizedBatch whole;
  whole.results = expected->Recognize(audio, {});
  const std::vector<std::string> texts = LinesOf({whole}, false);

  RecognizerPool pool(std::move(lanes));
  const auto lines = LinesOf(pool.RecognizeAll(audio, {2}, {}), false);
  const auto losses = pool.Losses();
  for (const Status& loss : losses) std::fprintf(stderr, "LOST %s\n", loss.message().c_str());
  if (lines == texts) std::_Exit(losses.size() == 1 ? 0 : 2);
  for (size_t i = 0; i < texts.size(); ++i) {
    if (lines[i] == texts[i] || lines[i].find("the GPU is lost") != std::string::npos) continue;
    std::fprintf(stderr, "%s, not %s\n", lines[i].c_str(), texts[i].c_str());
    std::_Exit(2);
  }
  std::_Exit(1);
}

TEST_F(CudaPoolTest, ALostGpuLosesNoRecording) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const int at : {1, 2, 4}) {  // while the other lane prepares its first steps, or repeats them
    EXPECT_EXIT(LoseAndExit(set_, audio_, 0, at, "cpu"), ::testing::ExitedWithCode(0), "LOST cuda:0: .*lost") << at;
  }
}

// CUDA gives the whole process up; should a driver spare the other GPU, it has to finish the work.
TEST_F(CudaPoolTest, ALostGpuMayTakeTheOthersOfItsProcess) {
  if (NumGpus() < 2) GTEST_SKIP() << "needs two GPUs";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto ends_well = [](int status) { return WIFEXITED(status) && WEXITSTATUS(status) < 2; };
  EXPECT_EXIT(LoseAndExit(set_, audio_, 1, 3, "cuda:0"), ends_well, "LOST cuda:1: .*lost");
}

TEST_F(CudaPoolTest, WhatDoesNotFitIsHalved) {
  RecognizerOptions options = On("cuda:0");
  const auto expected = Run("cuda:0", 1, {}, false);
  int halved = 0;
  for (const size_t megabytes : {6, 12, 24, 48, 96}) {
    options.gpu_memory_bytes = megabytes << 20;
    auto pool = RecognizerPool::Load(set_.model_dir, options, {1});
    ASSERT_TRUE(pool.ok()) << pool.status().ToString();
    const auto lines = LinesOf((*pool)->RecognizeAll(audio_, {32}, {}), false);
    if (lines == expected) {
      ++halved;
    } else {
      EXPECT_NE(lines[0].find("GPU memory"), std::string::npos) << lines[0];
    }
  }
  EXPECT_GT(halved, 0);
}

}  // namespace
}  // namespace ting
