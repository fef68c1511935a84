// tests/text/writers_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Each format byte by byte on small results, escapes, failures; jsonl also by reading it back.
#include "text/writers.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace ting {
namespace {

using ::testing::HasSubstr;

RecognitionResult MakeResult() {
  Hypothesis best{
      .text = "你好 IT'S OK", .score = -1.5, .ctc_score = -2.25, .attention_score = -0.5, .confidence = 0.875};
  best.tokens = {{2, "你", 5, 100, 200, 0.5}, {4, "▁OK", 30, 1100, 1200, 0.25}};
  best.words = {{"你", 100, 200, 0.5}, {"好", 240, 320, 1}, {"IT'S", 800, 1000, 0.75}, {"OK", 1100, 1240, 0.25}};
  Hypothesis second{.text = "你", .score = -INFINITY};
  return {.audio_s = 1.5, .nbest = {best, second}};
}

RecognitionResult MakeFailure() { return {.status = Status(StatusCode::kDataLoss, "a.wav: \"cut\"\n"), .audio_s = 2}; }

std::string Write(ResultFormat format, const RecognitionResult& result, std::string_view key = "utt1") {
  return MakeResultWriter(format)->Write(key, result);
}

TEST(WritersTest, Text) {
  EXPECT_EQ(Write(ResultFormat::kText, MakeResult()), "你好 IT'S OK\n");
  EXPECT_EQ(Write(ResultFormat::kText, {.nbest = {{.text = "a\r\nb"}}}), "a  b\n") << "one result, one line";
  EXPECT_EQ(Write(ResultFormat::kText, {.nbest = {{}}}), "\n");
}

TEST(WritersTest, Kaldi) {
  EXPECT_EQ(Write(ResultFormat::kKaldi, MakeResult()), "utt1 你好 IT'S OK\n");
  EXPECT_EQ(Write(ResultFormat::kKaldi, {.nbest = {{}}}), "utt1 \n");
  EXPECT_EQ(Write(ResultFormat::kKaldi, MakeResult(), "my file\n1"), "my_file_1 你好 IT'S OK\n");
}

TEST(WritersTest, Ctm) {
  EXPECT_EQ(Write(ResultFormat::kCtm, MakeResult(), "a b"),
            "a_b 1 0.100 0.100 你 0.500\n"
            "a_b 1 0.240 0.080 好 1.000\n"
            "a_b 1 0.800 0.200 IT'S 0.750\n"
            "a_b 1 1.100 0.140 OK 0.250\n");
  EXPECT_EQ(Write(ResultFormat::kCtm, {.nbest = {{}}}), "");
}

TEST(WritersTest, JsonHoldsEverything) {
  const std::string line = Write(ResultFormat::kJsonl, MakeResult(), "k\"\\\n\x01");
  ASSERT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  ASSERT_EQ(line.back(), '\n');
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["key"], "k\"\\\n\x01");
  EXPECT_EQ(json["audio_s"], 1.5);
  EXPECT_EQ(json["text"], "你好 IT'S OK");
  EXPECT_FALSE(json.contains("error"));
  ASSERT_EQ(json["nbest"].size(), 2);
  const auto& best = json["nbest"][0];
  EXPECT_EQ(best["score"], -1.5);
  EXPECT_EQ(best["ctc_score"], -2.25);
  EXPECT_EQ(best["attention_score"], -0.5);
  EXPECT_EQ(best["confidence"], 0.875);
  const nlohmann::json token = {{"text", "▁OK"},  {"id", 4},          {"start_ms", 1100},
                                {"end_ms", 1200}, {"peak_frame", 30}, {"confidence", 0.25}};
  ASSERT_EQ(best["tokens"].size(), 2);
  EXPECT_EQ(best["tokens"][1], token);
  const nlohmann::json word = {{"text", "IT'S"}, {"start_ms", 800}, {"end_ms", 1000}, {"confidence", 0.75}};
  ASSERT_EQ(best["words"].size(), 4);
  EXPECT_EQ(best["words"][2], word);
  EXPECT_TRUE(json["nbest"][1]["score"].is_null()) << "minus infinity is no JSON number";
  EXPECT_TRUE(json["nbest"][1]["words"].is_array());
}

TEST(WritersTest, JsonStartsWithTheKeyAndTakesAnyBytes) {
  EXPECT_THAT(Write(ResultFormat::kJsonl, MakeResult()), ::testing::StartsWith("{\"key\":\"utt1\","));
  EXPECT_EQ(nlohmann::json::parse(Write(ResultFormat::kJsonl, MakeResult(), "a\xff"))["key"], "a\xef\xbf\xbd");
}

TEST(WritersTest, WrittenKeysAreThoseOfTheLines) {
  const std::string key = "a b\t\xff";
  for (const auto format : {ResultFormat::kKaldi, ResultFormat::kCtm}) {
    EXPECT_EQ(MakeResultWriter(format)->WrittenKey(key), "a_b_\xff");
    EXPECT_THAT(Write(format, MakeResult(), key), ::testing::StartsWith("a_b_\xff "));
  }
  EXPECT_EQ(MakeResultWriter(ResultFormat::kJsonl)->WrittenKey(key),
            nlohmann::json::parse(Write(ResultFormat::kJsonl, MakeResult(), key))["key"].get<std::string>());
  EXPECT_EQ(MakeResultWriter(ResultFormat::kJsonl)->WrittenKey("你 \"好\""), "你 \"好\"");
}

TEST(WritersTest, OnlyJsonWritesFailures) {
  const auto json = nlohmann::json::parse(Write(ResultFormat::kJsonl, MakeFailure()));
  EXPECT_EQ(json["error"]["code"], "data loss");
  EXPECT_EQ(json["error"]["message"], "a.wav: \"cut\"\n");
  EXPECT_FALSE(json.contains("text"));
  for (const auto format :
       {ResultFormat::kText, ResultFormat::kKaldi, ResultFormat::kSrt, ResultFormat::kVtt, ResultFormat::kCtm}) {
    EXPECT_EQ(Write(format, MakeFailure()), "");
  }
}

TEST(WritersTest, Srt) {
  EXPECT_EQ(MakeResultWriter(ResultFormat::kSrt, {.pause_ms = 400})->Write("a", MakeResult()),
            "1\n00:00:00,100 --> 00:00:00,620\n你好\n\n"
            "2\n00:00:00,800 --> 00:00:01,500\nIT'S OK\n\n");
}

TEST(WritersTest, VttEscapesMarkup) {
  RecognitionResult result;
  result.audio_s = 4000;
  result.nbest = {{.text = "x", .words = {{"<unk>", 3661001, 3662000, 1}, {"R&D", 3662100, 3663000, 1}}}};
  const auto writer = MakeResultWriter(ResultFormat::kVtt);
  EXPECT_EQ(writer->Header(), "WEBVTT\n\n");
  EXPECT_EQ(writer->Write("a", result), "01:01:01.001 --> 01:01:03.300\n&lt;unk&gt; R&amp;D\n\n");
  EXPECT_EQ(Write(ResultFormat::kSrt, result), "1\n01:01:01,001 --> 01:01:03,300\n<unk> R&D\n\n");
}

TEST(WritersTest, WithoutTimesOneCueHoldsTheText) {
  const RecognitionResult result{.audio_s = 2.5, .nbest = {{.text = "你 好", .words = {{"你"}, {"好"}}}}};
  EXPECT_EQ(Write(ResultFormat::kSrt, result), "1\n00:00:00,000 --> 00:00:02,500\n你 好\n\n");
  EXPECT_EQ(Write(ResultFormat::kSrt, {.audio_s = 2.5, .nbest = {{}}}), "") << "silence";
}

TEST(WritersTest, FormatsByName) {
  const std::vector<std::pair<std::string, std::string>> names = {{"text", "txt"}, {"kaldi", "txt"}, {"jsonl", "jsonl"},
                                                                  {"srt", "srt"},  {"vtt", "vtt"},   {"ctm", "ctm"}};
  for (const auto& [name, extension] : names) {
    const auto format = ParseResultFormat(name);
    ASSERT_TRUE(format.ok()) << name;
    const auto writer = MakeResultWriter(*format);
    ASSERT_NE(writer, nullptr);
    EXPECT_EQ(writer->extension(), extension);
    EXPECT_EQ(writer->one_file_per_result(), name == "srt" || name == "vtt");
    EXPECT_EQ(writer->needs_times(), name == "srt" || name == "vtt" || name == "ctm");
    EXPECT_EQ(writer->Header().empty(), name != "vtt");
  }
  EXPECT_THAT(ParseResultFormat("json").status().message(), HasSubstr("text, kaldi, jsonl, srt, vtt or ctm"));
}

}  // namespace
}  // namespace ting
