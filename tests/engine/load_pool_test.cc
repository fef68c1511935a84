// tests/engine/load_pool_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Pools of the engine's own recognisers: several lanes of one thread each give what one recogniser gives.
#include <gtest/gtest.h>

#include "tests/engine/golden_set.h"
#include "ting/recognizer_pool.h"

namespace ting {
namespace {

class LoadPoolTest : public ::testing::Test {
 protected:
  const testing::GoldenSet set_{testing::ShippedGoldens()};
};

TEST_F(LoadPoolTest, LanesGiveWhatOneRecognizerGives) {
  RecognizerOptions options;
  options.num_threads = 1;
  auto recognizer = std::move(Recognizer::Load(set_.model_dir, options)).value();
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
  RecognizerOptions several;
  several.device = "cuda:0,1";
  EXPECT_EQ(Recognizer::Load(set_.model_dir, several).status().message(),
            "cuda:0,1 names several devices; one is needed here, such as cuda:0");
}

}  // namespace
}  // namespace ting
