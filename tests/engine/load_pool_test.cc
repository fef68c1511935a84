// tests/engine/load_pool_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Pools of the engine's own recognisers: how many lanes and threads they have, and that they give what one recogniser
// gives.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "engine/cpu_lanes.h"
#include "tests/engine/golden_set.h"
#include "ting/recognizer_pool.h"

namespace ting {
namespace {

using ::testing::ElementsAre;

TEST(CpuLanes, HaveOneThreadEachWhereThereAreRecordingsForThem) {
  EXPECT_THAT(ThreadsOfCpuLanes(1, {}), ElementsAre(1));
  EXPECT_THAT(ThreadsOfCpuLanes(3, {}), ElementsAre(1, 1, 1));
  EXPECT_THAT(ThreadsOfCpuLanes(3, {.max_batches = 2}), ElementsAre(2, 1));
  EXPECT_THAT(ThreadsOfCpuLanes(3, {.max_batches = 1}), ElementsAre(3));
  EXPECT_THAT(ThreadsOfCpuLanes(3, {.max_batches = 0}), ElementsAre(3));
  EXPECT_THAT(ThreadsOfCpuLanes(16, {}), std::vector<int>(16, 1));
  std::vector<int> of_37(16, 2);
  std::fill_n(of_37.begin(), 5, 3);
  EXPECT_EQ(ThreadsOfCpuLanes(37, {}), of_37);
}

TEST(CpuLanes, AreAsManyAsAskedForWhereThereAreBatchesForThem) {
  EXPECT_THAT(ThreadsOfCpuLanes(7, {.lanes = 1}), ElementsAre(7));
  EXPECT_THAT(ThreadsOfCpuLanes(7, {.lanes = 3}), ElementsAre(3, 2, 2));
  EXPECT_THAT(ThreadsOfCpuLanes(2, {.lanes = 3}), ElementsAre(1, 1, 1));
  EXPECT_THAT(ThreadsOfCpuLanes(7, {.lanes = 3, .max_batches = 2}), ElementsAre(4, 3));
  EXPECT_EQ(ThreadsOfCpuLanes(7, {.lanes = 64}).size(), 64U);
}

class LoadPoolTest : public ::testing::Test {
 protected:
  const testing::GoldenSet set_{testing::ShippedGoldens()};
};

TEST_F(LoadPoolTest, LanesGiveWhatOneRecognizerGives) {
  RecognizerOptions options;
  options.num_threads = 1;
  auto recognizer = std::move(Recognizer::Load(set_.model_dir, options)).value();
  options.num_threads = 4;  // two for one of the lanes
  auto pool = RecognizerPool::Load(set_.model_dir, options, {.lanes = 3});
  ASSERT_TRUE(pool.ok()) << pool.status().ToString();
  EXPECT_EQ((*pool)->num_lanes(), 3);
  EXPECT_EQ((*pool)->info().family, recognizer->info().family);
  std::vector<Audio> audio;
  for (int i = 0; i < 3; ++i) audio.insert(audio.end(), set_.audio.begin(), set_.audio.end());
  audio.insert(audio.begin() + 4, Audio{});  // one that fails by itself
  for (const DecodeMode mode : {DecodeMode::kGreedy, DecodeMode::kRescoring}) {
    DecodeOptions decode;
    decode.mode = mode;
    const auto expected = recognizer->Recognize(audio, decode);
    size_t i = 0;
    for (const RecognizedBatch& batch : (*pool)->RecognizeAll(audio, {2}, decode)) {
      EXPECT_GT(batch.stages.encoder_ms, 0);
      for (const RecognitionResult& result : batch.results) {
        ASSERT_EQ(result.status.code(), expected[i].status.code());
        if (result.status.ok()) {
          EXPECT_EQ(result.nbest[0].text, expected[i].nbest[0].text);
          EXPECT_EQ(result.nbest[0].score, expected[i].nbest[0].score);
        }
        ++i;
      }
    }
    EXPECT_EQ(i, audio.size());
  }
}

size_t ThreadsOfThisProcess() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

TEST_F(LoadPoolTest, LanesHaveTheThreadsThatWereAskedForTogether) {
  if (!std::filesystem::exists("/proc/self/task")) GTEST_SKIP() << "/proc is not on this machine";
  const auto expect = [&](const std::string& device, int num_threads, const PoolOptions& options, int lanes,
                          int threads) {
    RecognizerOptions one;
    one.device = device, one.num_threads = num_threads;
    const size_t before = ThreadsOfThisProcess();
    auto pool = RecognizerPool::Load(set_.model_dir, one, options);
    ASSERT_TRUE(pool.ok()) << pool.status().ToString();
    EXPECT_EQ((*pool)->num_lanes(), lanes);
    EXPECT_EQ((*pool)->num_threads(), threads);
    EXPECT_EQ(ThreadsOfThisProcess() - before, static_cast<size_t>(threads));
    const auto clone = (*pool)->Clone();
    ASSERT_TRUE(clone.ok()) << clone.status().ToString();
    EXPECT_EQ((*clone)->num_threads(), threads);
    EXPECT_EQ(ThreadsOfThisProcess() - before, static_cast<size_t>(2 * threads));
  };
  expect("cpu", 3, {}, 3, 3);
  expect("ref", 3, {}, 3, 3);
  expect("cpu", 3, {.max_batches = 2}, 2, 3);
  expect("cpu", 3, {.max_batches = 1}, 1, 3);
  expect("cpu", 3, {.lanes = 1}, 1, 3);
  expect("cpu", 1, {.lanes = 3}, 3, 3);
}

TEST_F(LoadPoolTest, SaysWhatIsNoDevice) {
  const auto message = [&](const std::string& device, int lanes = 0) {
    RecognizerOptions options;
    options.device = device;
    return RecognizerPool::Load(set_.model_dir, options, {lanes}).status().message();
  };
  for (const char* device : {"cuda:", "cuda:x", "cuda:0,", "cuda:,1", "cuda:0,x", "cuda:-1", "cuda:all,1"}) {
    EXPECT_EQ(message(device),
              std::string(device) + " is no device; GPUs are cuda:0, cuda:1, …, several at once cuda:0,1 or cuda:all");
  }
  EXPECT_EQ(message("cuda:1,0,1"), "cuda:1,0,1 names GPU 1 twice");
  EXPECT_NE(message("tpu").find("no device named tpu"), std::string::npos);
  EXPECT_NE(message("cpu", -1).find("-1 lanes"), std::string::npos);
  for (const int threads : {-1, 1025}) {
    RecognizerOptions options;
    options.num_threads = threads;
    EXPECT_EQ(RecognizerPool::Load(set_.model_dir, options, {}).status().message(),
              std::to_string(threads) + " threads; use 1 to 1024, or 0 for one a core");
  }
  RecognizerOptions several;
  several.device = "cuda:0,1";
  EXPECT_EQ(Recognizer::Load(set_.model_dir, several).status().message(),
            "cuda:0,1 names several devices; one is needed here, such as cuda:0");
}

}  // namespace
}  // namespace ting
