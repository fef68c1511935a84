// tests/tools/clip_lengths_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/clip_lengths.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/tools/fake_services.h"

namespace ting::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

tool::Recordings Clips(const std::vector<std::string>& texts) {
  tool::Recordings clips;
  for (const std::string& text : texts) {
    clips.inputs.push_back({text, text + ".wav", std::nullopt, {}});
    clips.audio.push_back({std::vector<float>(text.begin(), text.end()), 16000});
    clips.seconds += clips.audio.back().seconds();
  }
  return clips;
}

std::vector<std::string> Texts(const tool::Recordings& recordings) {
  std::vector<std::string> texts;
  for (const Audio& audio : recordings.audio) texts.emplace_back(audio.samples.begin(), audio.samples.end());
  return texts;
}

TEST(CutToLengths, JoinsAndCutsToTheSample) {
  const auto made = tool::CutToLengths(Clips({"abc", "DE", "fghi"}), {{"u1", 2}, {"u2", 2}, {"u3", 3}, {"u4", 21}});
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  const tool::Recordings& cut = *made;
  // Shorter than its clip, exactly its clip, cut again, and more than twice round.
  EXPECT_THAT(Texts(cut), ElementsAre("ab", "DE", "fgh", "abcDEfghiabcDEfghiabc"));
  EXPECT_EQ(cut.inputs[3].key, "u4");
  EXPECT_DOUBLE_EQ(cut.seconds, 28.0 / 16000);
}

TEST(CutToLengths, StartsWhereARecordingStarts) {
  const auto made = tool::CutToLengths(Clips({"abc", "DE"}), {{"u1", 4}, {"u2", 4}, {"u3", 5}, {"u4", 1}});
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  EXPECT_THAT(Texts(*made), ElementsAre("abcD", "abcD", "abcDE", "a"));
}

TEST(CutToLengths, RefusesClipsWithoutSamples) { EXPECT_FALSE(tool::CutToLengths(Clips({"", ""}), {{"u1", 4}}).ok()); }

TEST(SortByLength, LongestFirstAndEqualOnesInOrder) {
  tool::Recordings clips = Clips({"one", "three", "two", "seven"});
  tool::SortByLength(clips);
  EXPECT_THAT(Texts(clips), ElementsAre("three", "seven", "one", "two"));
  EXPECT_EQ(clips.inputs[2].key, "one");
}

class ClipLengthsTest : public ToolTest {};

TEST_F(ClipLengthsTest, ReadsKeysAndSamples) {
  const auto lengths = tool::ReadClipLengths(Write("l.tsv", "u1\t16000\n\nu2\t7\r\n"));
  ASSERT_TRUE(lengths.ok()) << lengths.status().ToString();
  ASSERT_EQ(lengths->size(), 2U);
  EXPECT_EQ((*lengths)[1].key, "u2");
  EXPECT_EQ((*lengths)[1].samples, 7);
}

TEST_F(ClipLengthsTest, RefusesWhatIsNoLength) {
  for (const char* line : {"u1", "u1\t", "\t5", "u1\t0", "u1\t-4", "u1\t5x", "u1\t5\t6", "u1\t172800001", "u1\t1e3",
                           "u1\t99999999999999999999"}) {
    const auto lengths = tool::ReadClipLengths(Write("l.tsv", std::string("ok\t1\n") + line));
    EXPECT_FALSE(lengths.ok()) << line;
    EXPECT_THAT(lengths.status().message(), HasSubstr("line 2")) << line;
  }
  EXPECT_FALSE(tool::ReadClipLengths(Write("l.tsv", "\n")).ok());
  EXPECT_FALSE(tool::ReadClipLengths(Path("missing.tsv")).ok());
}

TEST_F(ClipLengthsTest, BenchRunsOneRecordingOfEachLength) {
  Write("d/a.wav", "first clip"), Write("d/b.wav", "second clip");
  const std::string lengths = Write("l.tsv", "u1\t4\nu2\t40\nu3\t20\n");
  const std::vector<std::string> command = {"bench",     "-m",    "fake",     "--clips", Path("d"),
                                            "--lengths", lengths, "--sort",   "--batch", "2",
                                            "--warmup",  "0",     "--passes", "1",       "--json"};
  EXPECT_EQ(Ting(command), 0) << err_.str();
  EXPECT_THAT(log_.batch_sizes, ElementsAre(2, 1));
  const auto json = nlohmann::json::parse(out_.str(), nullptr, false);
  EXPECT_EQ(json["utterances"], 3);
  EXPECT_DOUBLE_EQ(json["audio_s"].get<double>(), 64.0 / 16000);
}

TEST_F(ClipLengthsTest, BenchWantsClipsWithLengths) {
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--stages", "1", "--lengths", Write("l.tsv", "u1\t4\n")}), 2);
  Write("d/a.wav", "clip");
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("d"), "--lengths", Write("l.tsv", "u1\tx\n")}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("l.tsv line 1: x is no number"));
}

}  // namespace
}  // namespace ting::testing
