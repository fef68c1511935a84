// tests/engine/recognizer_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// What the recogniser refuses, and what one bad utterance does to its batch: nothing.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/status_macros.h"
#include "tests/engine/golden_set.h"
#include "tests/support/scoped_isa.h"
#include "ting/recognizer_pool.h"

namespace ting {
namespace {

class RecognizerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_ = new testing::GoldenSet(testing::ShippedGoldens());
    recognizer_ = std::move(Recognizer::Load(set_->model_dir, {})).value().release();
  }
  static void TearDownTestSuite() {
    delete recognizer_;
    delete set_;
  }
  static std::string MessageFor(const DecodeOptions& options) {
    const auto results = recognizer_->Recognize({set_->audio.data(), 1}, options);
    return results[0].status.message();
  }

  void TearDown() override {
    std::error_code error;
    std::filesystem::remove(engine_path_, error);
  }
  // The model, by way of an engine file at engine_path_.
  Result<std::unique_ptr<Recognizer>> BuiltAs(Precision precision) const {
    TING_RETURN_IF_ERROR(BuildEngine(set_->model_dir, engine_path_, precision).status());
    return Recognizer::Load(engine_path_, {});
  }

  static testing::GoldenSet* set_;
  static Recognizer* recognizer_;
  const std::string engine_path_ =
      (std::filesystem::temp_directory_path() / ("recognizer_test." + std::to_string(::getpid()) + ".ting")).string();
};
testing::GoldenSet* RecognizerTest::set_ = nullptr;
Recognizer* RecognizerTest::recognizer_ = nullptr;

TEST_F(RecognizerTest, ABadUtteranceLeavesItsNeighboursAlone) {
  Audio silence{std::vector<float>(16000, 0.0F)};
  Audio too_short{std::vector<float>(1359, 1.0F)};  // one sample less than 7 frames
  Audio not_finite{std::vector<float>(16000, 1.0F)};
  not_finite.samples[77] = std::numeric_limits<float>::quiet_NaN();
  Audio other_rate{std::vector<float>(8000, 1.0F), 8000};
  const std::vector<Audio> batch{too_short, set_->audio[0], not_finite, Audio{}, set_->audio[1], other_rate, silence};
  const auto results = recognizer_->Recognize(batch, {});
  const auto expected = recognizer_->Recognize({set_->audio.data(), 2}, {});
  EXPECT_NE(results[0].status.message().find("6 feature frames; the model needs 7"), std::string::npos);
  EXPECT_NE(results[2].status.message().find("not finite"), std::string::npos);
  EXPECT_NE(results[3].status.message().find("0 feature frames"), std::string::npos);
  EXPECT_NE(results[5].status.message().find("8000 Hz"), std::string::npos);
  ASSERT_TRUE(results[1].status.ok() && results[4].status.ok() && results[6].status.ok());
  EXPECT_EQ(results[1].nbest[0].score, expected[0].nbest[0].score);
  EXPECT_EQ(results[4].nbest[0].score, expected[1].nbest[0].score);
  ASSERT_FALSE(results[6].nbest.empty());  // silence is a text too, perhaps an empty one
}

TEST_F(RecognizerTest, EmptyBatchAndOnlyBadUtterances) {
  EXPECT_TRUE(recognizer_->Recognize({}, {}).empty());
  const std::vector<Audio> batch(3);
  for (const auto& result : recognizer_->Recognize(batch, {})) EXPECT_FALSE(result.status.ok());
}

TEST_F(RecognizerTest, SaysWhichOptionMakesNoSense) {
  DecodeOptions options;
  options.beam = 0;
  EXPECT_NE(MessageFor(options).find("a beam of 0"), std::string::npos);
  options.beam = 5, options.nbest = 6;
  EXPECT_NE(MessageFor(options).find("6 best hypotheses from a beam of 5"), std::string::npos);
  options = {};
  options.reverse_weight = 1.5F;
  EXPECT_NE(MessageFor(options).find("reverse_weight"), std::string::npos);
  options = {};
  options.ctc_weight = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(MessageFor(options).empty());
  options = {};
  options.blank_skip = 1.0F;
  EXPECT_NE(MessageFor(options).find("blank_skip 1; use a probability"), std::string::npos);
  options = {};
  options.chunk_frames = -1;
  EXPECT_NE(MessageFor(options).find("chunks of -1 frames"), std::string::npos);
}

TEST_F(RecognizerTest, BeamOneAndWideBeamWork) {
  for (const int beam : {1, 2, 40}) {
    DecodeOptions options;
    options.beam = beam;
    const auto results = recognizer_->Recognize({set_->audio.data(), 1}, options);
    ASSERT_TRUE(results[0].status.ok()) << results[0].status.ToString();
    EXPECT_FALSE(results[0].nbest[0].text.empty());
  }
}

TEST_F(RecognizerTest, SkippingSureBlanksKeepsTheTextsOfClearSpeech) {
  DecodeOptions skip;
  skip.blank_skip = 0.99F;
  const auto expected = recognizer_->Recognize(set_->audio, {});
  const auto actual = recognizer_->Recognize(set_->audio, skip);
  bool skipped = false;
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(actual[i].nbest[0].text, expected[i].nbest[0].text);
    skipped |= actual[i].nbest[0].ctc_score < expected[i].nbest[0].ctc_score;
  }
  EXPECT_TRUE(skipped);
}

TEST_F(RecognizerTest, ThreadsDoNotChangeABit) {
  RecognizerOptions one;
  one.num_threads = 1;
  RecognizerOptions three;
  three.num_threads = 3;
  auto a = std::move(Recognizer::Load(set_->model_dir, one)).value();
  auto b = std::move(Recognizer::Load(set_->model_dir, three)).value();
  const auto x = a->Recognize(set_->audio, {});
  const auto y = b->Recognize(set_->audio, {});
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i].nbest[0].score, y[i].nbest[0].score);
}

TEST_F(RecognizerTest, AnEngineFileIsTheSameModel) {
  const auto engine = BuiltAs(Precision::kF32);
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  const auto expected = recognizer_->Recognize(set_->audio, {});
  const auto actual = (*engine)->Recognize(set_->audio, {});
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(actual[i].nbest[0].score, expected[i].nbest[0].score);
  EXPECT_EQ((*engine)->GraphText(), recognizer_->GraphText());
  EXPECT_EQ((*engine)->info().family, recognizer_->info().family);
  EXPECT_EQ((*engine)->info().num_parameters, recognizer_->info().num_parameters);
}

TEST_F(RecognizerTest, Bf16x1KeepsTheTextsOfClearSpeech) {
  const auto engine = BuiltAs(Precision::kBF16x1);
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_EQ((*engine)->info().precision, Precision::kBF16x1);
  const auto expected = recognizer_->Recognize(set_->audio, {});
  const auto actual = (*engine)->Recognize(set_->audio, {});
  int same = 0;
  for (size_t i = 0; i < expected.size(); ++i) same += actual[i].nbest[0].text == expected[i].nbest[0].text ? 1 : 0;
  EXPECT_GE(same, static_cast<int>(expected.size()) - 1);
  RecognizerOptions f32;
  f32.precision = Precision::kF32;
  EXPECT_NE(Recognizer::Load(engine_path_, f32).status().message().find("build it again"), std::string::npos);
}

TEST_F(RecognizerTest, Bf16IsInt16OnTheCpuAndSaysSo) {
  RecognizerOptions options;
  options.precision = Precision::kBF16;
  std::vector<std::string> notes;
  options.note = [&](const std::string& note) { notes.push_back(note); };
  const auto recognizer = Recognizer::Load(set_->model_dir, options);
  ASSERT_TRUE(recognizer.ok()) << recognizer.status().ToString();
  EXPECT_EQ((*recognizer)->info().precision, Precision::kInt16);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_EQ(notes[0].find("bf16 becomes int16, "), 0U) << notes[0];
  const auto pool = RecognizerPool::Load(set_->model_dir, options, {});
  ASSERT_TRUE(pool.ok());
  EXPECT_EQ((*pool)->info().precision, Precision::kInt16);
  EXPECT_EQ(notes.size(), 2U);
  const auto built = BuildEngine(set_->model_dir, engine_path_, Precision::kBF16);
  ASSERT_TRUE(built.ok());
  EXPECT_EQ(built->precision, Precision::kInt16);
}

TEST_F(RecognizerTest, AnEngineFileHoldsWhatTheCpuReads) {
  for (const Precision precision : {Precision::kF16, Precision::kTF32}) {
    const auto built = BuildEngine(set_->model_dir, engine_path_, precision);
    EXPECT_NE(built.status().message().find("not in"), std::string::npos);
    EXPECT_FALSE(std::filesystem::exists(engine_path_));
  }
}

TEST_F(RecognizerTest, Bf16x3AndInt16KeepEveryText) {
  for (const auto& [precision, score_error] : {std::pair{Precision::kBF16x3, 1e-2}, {Precision::kInt16, 5e-2}}) {
    const auto engine = BuiltAs(precision);
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    EXPECT_EQ((*engine)->info().precision, precision);
    const auto expected = recognizer_->Recognize(set_->audio, {});
    const auto actual = (*engine)->Recognize(set_->audio, {});
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(actual[i].nbest[0].text, expected[i].nbest[0].text);
      EXPECT_NEAR(actual[i].nbest[0].score, expected[i].nbest[0].score, score_error);
    }
    RecognizerOptions options;
    options.precision = Precision::kBF16x1;  // coarser: possible
    EXPECT_TRUE(Recognizer::Load(engine_path_, options).ok());
    options.precision = Precision::kF32;
    EXPECT_NE(Recognizer::Load(engine_path_, options).status().message().find("build it again"), std::string::npos);
    options.precision = precision, options.device = "cuda";
    EXPECT_NE(Recognizer::Load(engine_path_, options).status().message().find("and bf16x1, not in"), std::string::npos);
  }
}

// The file is laid out for the instruction set that built it; another one lays it out anew.
TEST_F(RecognizerTest, AnInt16FileRunsOnEveryInstructionSet) {
  const auto expected = recognizer_->Recognize(set_->audio, {});
  for (const char* builder : testing::IsaNames()) {
    {
      const testing::ScopedIsa isa(builder);
      ASSERT_TRUE(BuildEngine(set_->model_dir, engine_path_, Precision::kInt16).ok());
    }
    for (const char* user : testing::IsaNames()) {
      if (std::string_view(user) == "baseline") continue;  // slow, and it only expands
      const testing::ScopedIsa isa(user);
      const auto engine = Recognizer::Load(engine_path_, {});
      ASSERT_TRUE(engine.ok()) << engine.status().ToString();
      const auto actual = (*engine)->Recognize({set_->audio.data(), 2}, {});
      for (size_t i = 0; i < actual.size(); ++i) {
        EXPECT_EQ(actual[i].nbest[0].text, expected[i].nbest[0].text) << builder << " for " << user;
        EXPECT_NEAR(actual[i].nbest[0].score, expected[i].nbest[0].score, 5e-2) << builder << " for " << user;
      }
    }
  }
}

TEST_F(RecognizerTest, RefusesWhatIsNoModel) {
  EXPECT_FALSE(Recognizer::Load("/nonexistent", {}).ok());
  EXPECT_FALSE(Recognizer::Load(testing::SourcePath("README.md"), {}).ok());
  EXPECT_FALSE(Recognizer::Load(testing::SourcePath("src"), {}).ok());
  RecognizerOptions options;
  options.device = "tpu";
  EXPECT_NE(Recognizer::Load(set_->model_dir, options).status().message().find("no device named tpu"),
            std::string::npos);
}

}  // namespace
}  // namespace ting
