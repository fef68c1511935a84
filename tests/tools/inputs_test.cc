// tests/tools/inputs_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/inputs.h"

#include <gmock/gmock.h>

#include "tests/tools/fake_services.h"

namespace ting::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using tool::ExpandInputs;
using tool::Input;
using tool::InputSet;
using tool::ReadTranscripts;
using tool::Transcripts;

class InputsTest : public ToolTest {
 protected:
  static std::vector<std::string> Keys(const InputSet& set) {
    std::vector<std::string> keys;
    for (const Input& input : set.inputs) keys.push_back(input.key);
    return keys;
  }
  static std::string Refusal(const std::vector<std::string>& arguments) {
    const auto set = ExpandInputs(arguments);
    return set.ok() ? "not refused" : set.status().message();
  }
};

TEST_F(InputsTest, AFileIsItselfEvenIfItIsNotThere) {
  const auto set = ExpandInputs({Path("gone.wav")});
  ASSERT_TRUE(set.ok());
  EXPECT_THAT(Keys(*set), ElementsAre("gone"));
  EXPECT_EQ(set->inputs[0].path, Path("gone.wav"));
}

TEST_F(InputsTest, StandardInput) {
  const auto set = ExpandInputs({"-"});
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->inputs[0].key, "stdin");
  EXPECT_EQ(set->inputs[0].path, "-");
}

TEST_F(InputsTest, AFolderGivesItsAudioSortedAndAtAnyDepth) {
  Write("d/b.WAV", ""), Write("d/a/z.opus", ""), Write("d/c.mp3", ""), Write("d/notes.txt", ""), Write("d/x.flac", "");
  const auto set = ExpandInputs({Path("d")});
  ASSERT_TRUE(set.ok());
  EXPECT_THAT(Keys(*set), ElementsAre("z", "b", "c", "x"));
}

TEST_F(InputsTest, AFolderWithoutAudioIsRefused) {
  Write("d/notes.txt", "");
  EXPECT_THAT(Refusal({Path("d")}), HasSubstr("no audio file"));
}

TEST_F(InputsTest, AGlobIsExpandedAndSorted) {
  Write("b1.wav", ""), Write("a1.wav", ""), Write("a2.ogg", "");
  const auto set = ExpandInputs({Path("*1.wav")});
  ASSERT_TRUE(set.ok());
  EXPECT_THAT(Keys(*set), ElementsAre("a1", "b1"));
  EXPECT_THAT(Refusal({Path("nothing*.wav")}), HasSubstr("no file matches"));
}

TEST_F(InputsTest, AFileWhoseNameHasGlobSignsIsAFile) {
  Write("a[1].wav", "");
  const auto set = ExpandInputs({Path("a[1].wav")});
  ASSERT_TRUE(set.ok());
  EXPECT_THAT(Keys(*set), ElementsAre("a[1]"));
}

TEST_F(InputsTest, FilesOfTheSameNameGetNumbersAndANote) {
  Write("d/a/x.wav", ""), Write("d/b/x.wav", ""), Write("d/c/x.wav", "");
  const auto set = ExpandInputs({Path("d")});
  ASSERT_TRUE(set.ok());
  EXPECT_THAT(Keys(*set), ElementsAre("x", "x-2", "x-3"));
  ASSERT_EQ(set->notes.size(), 2U);
  EXPECT_THAT(set->notes[0], HasSubstr("b/x.wav gets the key x-2"));
}

TEST_F(InputsTest, WhiteSpaceInAFileNameBecomesUnderscores) {
  const auto set = ExpandInputs({Path("my talk\t1.wav")});
  ASSERT_TRUE(set.ok());
  EXPECT_THAT(Keys(*set), ElementsAre("my_talk_1"));
}

TEST_F(InputsTest, WavScpPathsMayHaveSpacesAndBeRelativeToTheList) {
  Write("l/x/one file.wav", "");
  const auto set = ExpandInputs({Write("l/wav.scp",
                                       "\xef\xbb\xbf"
                                       "u1 x/one file.wav\r\n\n  u2\t/abs/2.wav  \n")});
  ASSERT_TRUE(set.ok()) << set.status().message();
  EXPECT_THAT(Keys(*set), ElementsAre("u1", "u2"));
  EXPECT_EQ(set->inputs[0].path, Path("l/x/one file.wav"));
  EXPECT_EQ(set->inputs[1].path, "/abs/2.wav");
}

TEST_F(InputsTest, AWavScpPipeIsRefusedByNameAndNotRun) {
  const std::string trace = Path("trace");
  const auto set = ExpandInputs({Write("wav.scp", "u1 touch " + trace + " |\nu2 b.wav\n")});
  ASSERT_TRUE(set.ok());
  EXPECT_FALSE(set->inputs[0].problem.ok());
  EXPECT_THAT(set->inputs[0].problem.message(), HasSubstr("line 1: u1 is a pipe"));
  EXPECT_TRUE(set->inputs[1].problem.ok());
  EXPECT_FALSE(std::filesystem::exists(trace));
}

TEST_F(InputsTest, ListsAreRefusedWithTheLineThatIsWrong) {
  EXPECT_THAT(Refusal({Write("a.scp", "u1 a.wav\nu2\n")}), HasSubstr("a.scp line 2: expected \"key path\""));
  EXPECT_THAT(Refusal({Write("b.scp", "u1 a.wav\nu1 b.wav\n")}), HasSubstr("b.scp line 2: the key u1 is taken by"));
  EXPECT_THAT(Refusal({Write("c.scp", "\n\n")}), HasSubstr("the list is empty"));
  EXPECT_THAT(Refusal({Path("gone.scp")}), HasSubstr("gone.scp: No such file"));
  EXPECT_THAT(Refusal({Write("d.jsonl", "{\"key\": \"a\"")}), HasSubstr("line 1: not a JSON object"));
  EXPECT_THAT(Refusal({Write("e.jsonl", "{\"key\": 7, \"wav\": \"a\"}")}), HasSubstr("must both be there"));
  EXPECT_THAT(Refusal({Write("f.jsonl", "{\"key\": \"a b\", \"wav\": \"a\"}")}), HasSubstr("white space"));
  EXPECT_THAT(Refusal({Write("g.tsv", "only a key\n")}), HasSubstr("key<TAB>text"));
}

TEST_F(InputsTest, JsonLinesMayHoldTexts) {
  const auto set = ExpandInputs({Write("data.list",
                                       "{\"key\": \"u1\", \"wav\": \"/a.wav\", \"txt\": \"你好\"}\n"
                                       "{\"key\": \"u2\", \"wav\": \"/b.wav\"}\n")});
  ASSERT_TRUE(set.ok()) << set.status().message();
  EXPECT_EQ(set->inputs[0].text, "你好");
  EXPECT_EQ(set->inputs[1].text, std::nullopt);
  EXPECT_EQ(set->inputs[1].path, "/b.wav");
}

TEST_F(InputsTest, ATsvFindsItsClips) {
  Write("s/clips/u1.opus", ""), Write("s/u2.wav", "");
  const auto set = ExpandInputs({Write("s/list.tsv", "u1\t甚至\tzhtts\trandom\nu2\t出现\nu3\t交易\n")});
  ASSERT_TRUE(set.ok()) << set.status().message();
  ASSERT_THAT(Keys(*set), ElementsAre("u1", "u2", "u3"));
  EXPECT_EQ(set->inputs[0].path, Path("s/clips/u1.opus"));
  EXPECT_EQ(set->inputs[0].text, "甚至");
  EXPECT_EQ(set->inputs[1].path, Path("s/u2.wav"));
  EXPECT_THAT(set->inputs[2].problem.message(), HasSubstr("line 3: no recording clips/u3.*"));
}

TEST_F(InputsTest, TranscriptsOfBothKinds) {
  const auto kaldi = ReadTranscripts(Write("text", "u1 你 好\nu2\n\nu3\thello  world \n"));
  ASSERT_TRUE(kaldi.ok());
  EXPECT_EQ(*kaldi, (Transcripts{{"u1", "你 好"}, {"u2", ""}, {"u3", "hello  world"}}));
  const auto tsv = ReadTranscripts(Write("list.tsv", "u1\ta b\tengine\nu2\t\tengine\n"));
  ASSERT_TRUE(tsv.ok());
  EXPECT_EQ(*tsv, (Transcripts{{"u1", "a b"}, {"u2", ""}}));
  EXPECT_FALSE(ReadTranscripts(Write("empty", "")).ok());
}

}  // namespace
}  // namespace ting::testing
