// tests/text/cues_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Where subtitles are cut: worked cases of each reason, and the promises on random words.
#include "text/cues.h"

#include <gmock/gmock.h>

#include <random>

#include "text/unicode.h"

namespace ting {
namespace {

using ::testing::ElementsAre;

// Words of 200 ms each, with the pause before each.
std::vector<WordSpan> Timed(const std::vector<std::pair<std::string, int32_t>>& words) {
  std::vector<WordSpan> spans;
  int32_t now = 0;
  for (const auto& [text, pause] : words) {
    spans.push_back({text, now + pause, now + pause + 200, 1});
    now += pause + 200;
  }
  return spans;
}

std::vector<std::string> Texts(const std::vector<WordSpan>& words, const WriterOptions& options = {}) {
  std::vector<std::string> texts;
  for (const Cue& cue : MakeCues(words, 1 << 30, options)) texts.push_back(cue.text);
  return texts;
}

TEST(CuesTest, JoinsWordsWithSpacesBetweenAlphabeticOnes) {
  EXPECT_EQ(JoinWords(Timed({{"你", 0}, {"好", 0}, {"IT'S", 0}, {"OK", 0}, {"，", 0}, {"a", 0}, {"b", 0}})),
            "你好IT'S OK，a b");
  EXPECT_EQ(JoinWords({}), "");
}

TEST(CuesTest, CutsAtPausesAndSentences) {
  EXPECT_THAT(Texts({}), ElementsAre());
  EXPECT_THAT(Texts(Timed({{"a", 0}, {"b", 50}, {"c", 800}, {"d", 799}})), ElementsAre("a b", "c d"));
  EXPECT_THAT(Texts(Timed({{"你", 0}, {"。", 50}, {"好", 50}, {"？", 900}, {"ok.", 0}, {"no", 0}})),
              ElementsAre("你。", "好？", "ok.", "no"));
}

TEST(CuesTest, CutsAtTheLimitsAfterAClauseOrBeforeThePause) {
  const WriterOptions ten{.max_cue_columns = 10};
  EXPECT_THAT(Texts(Timed({{"一", 0}, {"二", 50}, {"三", 50}, {"四", 50}, {"五", 50}, {"六", 50}}), ten),
              ElementsAre("一二三四五", "六"));
  EXPECT_THAT(Texts(Timed({{"一", 0}, {"二", 50}, {"三", 50}, {"，", 50}, {"四", 50}, {"五", 50}}), ten),
              ElementsAre("一二三，", "四五"));
  EXPECT_THAT(Texts(Timed({{"一", 0}, {"二", 50}, {"三", 50}, {"四", 150}, {"五", 50}, {"六", 50}}), ten),
              ElementsAre("一二三", "四五六"));
  EXPECT_THAT(Texts(Timed({{"一", 0}, {"二", 150}, {"三", 50}, {"四", 50}, {"五", 50}, {"六", 50}}), ten),
              ElementsAre("一二三四五", "六"))
      << "the first half is too short for a cue";
  EXPECT_THAT(Texts(Timed({{"a", 0}, {"b", 50}, {"c", 50}}), {.max_cue_ms = 500}), ElementsAre("a b", "c"));
}

TEST(CuesTest, ClosingPunctuationHangsAndLongWordsStand) {
  const WriterOptions four{.max_cue_columns = 4};
  EXPECT_THAT(Texts(Timed({{"一", 0}, {"二", 50}, {"，", 50}, {"三", 50}}), four), ElementsAre("一二，", "三"));
  EXPECT_THAT(Texts(Timed({{"a", 0}, {"international", 50}, {"b", 50}}), four), ElementsAre("a", "international", "b"));
  EXPECT_THAT(Texts(Timed({{"été", 0}}), four), ElementsAre("été"));
  EXPECT_THAT(Texts(Timed({{"é", 0}, {"éé", 50}}), four), ElementsAre("é éé")) << "one column a letter";
}

TEST(CuesTest, CuesStayALittleButNotIntoTheNextNorPastTheEnd) {
  const auto words = Timed({{"a", 100}, {"b", 900}, {"c", 1000}});  // 100-300, 1200-1400, 2400-2600
  const auto cues = MakeCues(words, 2700, {.pause_ms = 800, .hold_ms = 950});
  ASSERT_EQ(cues.size(), 3);
  EXPECT_EQ(cues[0].start_ms, 100);
  EXPECT_EQ(cues[0].end_ms, 1200);
  EXPECT_EQ(cues[1].end_ms, 2350);
  EXPECT_EQ(cues[2].end_ms, 2700);
  EXPECT_EQ(MakeCues(words, 0, {})[2].end_ms, 2600) << "an unknown length does not cut words off";
}

TEST(CuesTest, RandomWordsKeepThePromises) {
  std::mt19937 random(5);
  const std::vector<std::string> texts = {"你", "好", "，", "。", "word", "a", "it's", "extraordinary,", "end."};
  for (int round = 0; round < 300; ++round) {
    std::vector<std::pair<std::string, int32_t>> list;
    for (uint32_t n = 1 + random() % 40; n > 0; --n) {
      list.emplace_back(texts[random() % texts.size()], random() % 8 == 0 ? 900 : random() % 100);
    }
    const auto words = Timed(list);
    const WriterOptions options{.max_cue_columns = 20, .max_cue_ms = 3000};
    const auto cues = MakeCues(words, words.back().end_ms + 100, options);
    std::string all;
    for (size_t i = 0; i < cues.size(); ++i) {
      EXPECT_LT(cues[i].start_ms, cues[i].end_ms);
      EXPECT_LE(i == 0 ? 0 : cues[i - 1].end_ms, cues[i].start_ms);
      EXPECT_TRUE(i == 0 || (!cues[i].text.starts_with("，") && !cues[i].text.starts_with("。"))) << cues[i].text;
      std::string body = cues[i].text;  // without the punctuation that may hang
      while (body.ends_with("，") || body.ends_with("。")) body.resize(body.size() - 3);
      EXPECT_LE(DisplayWidth(body), 20) << body;
      all += cues[i].text;
    }
    std::string expected = JoinWords(words);
    std::erase(expected, ' ');
    std::erase(all, ' ');
    EXPECT_EQ(all, expected);
  }
}

}  // namespace
}  // namespace ting
