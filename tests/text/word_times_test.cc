// tests/text/word_times_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Token times against worked cases of the runtime's rule, and against its properties on random peaks.
#include "text/word_times.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "tests/text/text_testing.h"

namespace ting {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MakeTable;
using ::testing::Pair;

const std::vector<std::string> kUnits = {"<blank>", "<unk>",  "你", "好", "▁HE", "LLO",
                                         "▁",       "▁WORLD", "，", "'S", "a",   "b"};

std::vector<TokenSpan> Spans(std::vector<int32_t> ids, std::vector<int32_t> peaks, std::vector<double> confidences = {},
                             TokenTimeOptions options = {}) {
  auto spans = MakeTokenSpans(MakeTable(kUnits), ids, peaks, confidences, options);
  EXPECT_TRUE(spans.ok()) << spans.status().ToString();
  return spans.ok() ? *spans : std::vector<TokenSpan>{};
}

std::vector<std::pair<int32_t, int32_t>> Times(const std::vector<TokenSpan>& spans) {
  std::vector<std::pair<int32_t, int32_t>> times;
  for (const TokenSpan& span : spans) times.emplace_back(span.start_ms, span.end_ms);
  return times;
}

TEST(TokenSpansTest, TokensEndAtTheirPeak) {
  EXPECT_THAT(Times(Spans({2}, {10})), ElementsAre(Pair(300, 400)));
  EXPECT_THAT(Times(Spans({2}, {2})), ElementsAre(Pair(0, 80)));
  EXPECT_THAT(Times(Spans({2}, {0})), ElementsAre(Pair(0, 0)));
  EXPECT_THAT(Times(Spans({2, 3}, {10, 13})), ElementsAre(Pair(300, 400), Pair(420, 520)));
}

TEST(TokenSpansTest, CloseTokensMeetAtTheMidpointInWholeFrames) {
  EXPECT_THAT(Times(Spans({2, 3}, {10, 12})), ElementsAre(Pair(300, 440), Pair(440, 480)));
  EXPECT_THAT(Times(Spans({2, 3, 2}, {10, 11, 13})), ElementsAre(Pair(300, 400), Pair(400, 480), Pair(480, 520)));
}

TEST(TokenSpansTest, FrameLengthAndOffsetCount) {
  const auto spans = Spans({2, 3}, {2, 4}, {0.5, 0.25}, {.frame_ms = 60, .max_token_ms = 100, .first_frame = 100});
  EXPECT_THAT(Times(spans), ElementsAre(Pair(6020, 6120), Pair(6140, 6240)));
  EXPECT_EQ(spans[0].peak_frame, 102);
  EXPECT_EQ(spans[1].text, "好");
  EXPECT_EQ(spans[1].id, 3);
  EXPECT_EQ(spans[1].confidence, 0.25);
}

TEST(TokenSpansTest, SpansFollowEachOther) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> peaks, ids;
    for (int32_t peak = static_cast<int32_t>(random() % 4); peaks.size() < 20; peak += 1 + random() % 6) {
      peaks.push_back(peak), ids.push_back(2);
    }
    int32_t end = 0;
    for (const TokenSpan& span : Spans(ids, peaks)) {
      EXPECT_LE(end, span.start_ms);
      EXPECT_LE(span.start_ms, span.end_ms);
      EXPECT_LE(span.start_ms, span.peak_frame * 40);
      EXPECT_LE(span.end_ms, span.peak_frame * 40 + 50);
      end = span.end_ms;
    }
    EXPECT_GT(end, 0);
  }
}

TEST(TokenSpansTest, WithoutPeaksTimesAreZero) {
  EXPECT_THAT(Times(Spans({2, 3}, {}, {0.5, 0.5})), ElementsAre(Pair(0, 0), Pair(0, 0)));
  EXPECT_TRUE(Spans({}, {}).empty());
}

TEST(TokenSpansTest, RefusesInputsThatDoNotFit) {
  const TokenTable table = MakeTable(kUnits);
  const std::vector<int32_t> ids = {2, 3}, one = {4}, negative = {-1, 4}, peaks = {1, 2}, outside = {2, 12};
  const std::vector<double> confidence = {0.5};
  const auto message = [](const Result<std::vector<TokenSpan>>& spans) { return spans.status().message(); };
  EXPECT_THAT(message(MakeTokenSpans(table, ids, one, {}, {})), HasSubstr("1 peak frames for 2 tokens"));
  EXPECT_THAT(message(MakeTokenSpans(table, ids, peaks, confidence, {})), HasSubstr("1 confidences for 2 tokens"));
  EXPECT_THAT(message(MakeTokenSpans(table, ids, negative, {}, {})), HasSubstr("negative"));
  EXPECT_THAT(message(MakeTokenSpans(table, outside, peaks, {}, {})), HasSubstr("token id 12"));
  EXPECT_THAT(message(MakeTokenSpans(table, ids, peaks, {}, {.frame_ms = 0})), HasSubstr("frame_ms"));
}

std::vector<std::string> Words(std::vector<int32_t> ids) {
  std::vector<std::string> texts;
  for (const WordSpan& word : MakeWordSpans(Spans(std::move(ids), {}))) texts.push_back(word.text);
  return texts;
}

TEST(WordSpansTest, SplitsAtCharactersBoundariesAndPunctuation) {
  EXPECT_THAT(Words({}), ElementsAre());
  EXPECT_THAT(Words({2, 3, 3}), ElementsAre("你", "好", "好"));
  EXPECT_THAT(Words({4, 5, 7, 9}), ElementsAre("HELLO", "WORLD'S"));
  EXPECT_THAT(Words({2, 10, 11, 3}), ElementsAre("你", "ab", "好"));
  EXPECT_THAT(Words({10, 11, 6, 10}), ElementsAre("ab", "a"));
  EXPECT_THAT(Words({6, 6, 4, 6}), ElementsAre("HE"));
  EXPECT_THAT(Words({4, 8, 10}), ElementsAre("HE", "，", "a"));
  EXPECT_THAT(Words({10, 1, 11}), ElementsAre("a", "<unk>", "b"));
}

TEST(WordSpansTest, TimesAndConfidenceComeFromTheTokens) {
  const auto words = MakeWordSpans(Spans({4, 5, 6, 2}, {10, 14, 20, 30}, {0.9, 0.4, 0.1, 0.7}));
  ASSERT_EQ(words.size(), 2);
  EXPECT_EQ(words[0].start_ms, 300);
  EXPECT_EQ(words[0].end_ms, 560);
  EXPECT_NEAR(words[0].confidence, 0.6, 1e-12);  // sqrt(0.9 · 0.4)
  EXPECT_EQ(words[1].start_ms, 1100);
  EXPECT_NEAR(words[1].confidence, 0.7, 1e-12);
  EXPECT_EQ(MakeWordSpans(Spans({4, 5}, {1, 2}, {0.0, 1.0}))[0].confidence, 0);
}

}  // namespace
}  // namespace ting
