// tests/text/detokenize_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Detokenising against WeNet's transcripts, and against the behaviour of its C++ runtime in worked cases.
#include "text/detokenize.h"

#include <gmock/gmock.h>

#include "tests/support/npz.h"
#include "tests/support/paths.h"
#include "tests/text/text_testing.h"

namespace ting {
namespace {

using ::testing::HasSubstr;
using testing::MakeTable;
using testing::Npz;
using testing::ReadWholeFile;
using testing::SharedPath;
using testing::SplitOn;

std::string Text(const TokenTable& table, std::vector<int32_t> ids, TextStyle style = TextStyle::kPython) {
  auto text = Detokenize(table, ids, style);
  EXPECT_TRUE(text.ok()) << text.status().ToString();
  return text.ok() ? *text : "(failed)";
}

const std::vector<std::string> kCharUnits = {"<blank>", "<unk>", "你", "好", "▁", "O", "K", "<sos/eos>"};
const std::vector<std::string> kBpeUnits = {"<blank>", "<unk>", "你", "好", "▁HE", "LLO", "▁", "▁WORLD", "<sos/eos>"};

TEST(DetokenizeTest, CharacterModelKeepsItsUnitsAsTheyAre) {
  const TokenTable table = MakeTable(kCharUnits);
  EXPECT_EQ(Text(table, {}), "");
  EXPECT_EQ(Text(table, {2, 3, 4, 5, 6}), "你好▁OK");
  EXPECT_EQ(Text(table, {2, 1, 3}), "你<unk>好");
}

TEST(DetokenizeTest, BpeModelJoinsPieces) {
  const TokenTable table = MakeTable(kBpeUnits);
  EXPECT_EQ(Text(table, {4, 5, 7}), "HELLO WORLD");
  EXPECT_EQ(Text(table, {2, 3, 4, 5, 7, 2}), "你好 HELLO WORLD你");
  EXPECT_EQ(Text(table, {6, 6, 2, 6}), "你");
  EXPECT_EQ(Text(table, {2, 6, 4}), "你  HE") << "Python does not collapse spaces";
  EXPECT_EQ(Text(table, {6}), "");
}

TEST(DetokenizeTest, RuntimeStyleRemovesSymbolsAndCollapsesSpaces) {
  EXPECT_EQ(Text(MakeTable(kCharUnits), {2, 1, 3, 4, 5, 6}, TextStyle::kRuntime), "你好 OK");
  EXPECT_EQ(Text(MakeTable(kBpeUnits), {6, 4, 5, 6, 7, 1, 6}, TextStyle::kRuntime), "HELLO WORLD");
}

TEST(DetokenizeTest, CleanTextFollowsTheRuntime) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", ""},
      {"  ", ""},
      {"今天天气", "今天天气"},
      {" 今天 天气 也 好", "今天天气也好"},
      {"▁this▁is▁fine", "this is fine"},
      {" it's all fine here", "it's all fine here"},
      {"今天▁is▁fine", "今天 is fine"},
      {" 今天 天气 is fine", "今天天气is fine"},
      {"room 12 is", "room12is"},  // "12" is no English word
      {"▁▁a▁▁b▁▁", "a b"},
      {"<context>今</context>天<unk>", "今天"},
      {"<u<unk>nk>好", "好"},  // what a removal puts together is removed as well
      {"<<unk>unk>好", "好"},
      {"▁schön▁so", "schön so"},
  };
  for (const auto& [joined, text] : cases) EXPECT_EQ(CleanText(joined), text) << joined;
}

TEST(DetokenizeTest, RefusesIdsOutsideTheTable) {
  const TokenTable table = MakeTable(kCharUnits);
  for (const int32_t id : {-1, 8, 1 << 30}) {
    const std::vector<int32_t> ids = {2, id};
    const auto text = Detokenize(table, ids);
    ASSERT_FALSE(text.ok()) << id;
    EXPECT_EQ(text.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(text.status().message(), HasSubstr(std::to_string(id)));
  }
}

// The transcripts of a golden folder, of every recording and mode whose ids search.npz has: the number compared.
int CompareTranscripts(const std::string& folder, const TokenTable& table) {
  const Npz search = Npz::Load(folder + "/search.npz");
  const auto lines = SplitOn(ReadWholeFile(folder + "/transcripts.tsv"), '\n');
  const auto columns = SplitOn(lines.at(0), '\t');
  int compared = 0;
  for (size_t row = 1; row < lines.size(); ++row) {
    const auto fields = SplitOn(lines[row] + "\t", '\t');
    EXPECT_EQ(fields.size(), columns.size()) << lines[row];
    for (size_t column = 2; column < columns.size() && column < fields.size(); ++column) {
      const std::string& mode = columns[column];
      const std::string name = fields[0] + "." + mode + (mode == "greedy" ? "" : ".tokens");
      if (!search.Has(name)) continue;
      std::vector<int32_t> ids = search[name].As<int32_t>();
      if (search[name].shape.size() == 2) ids.resize(search[name].shape[1]);  // [N, L]: the best is first
      std::erase(ids, -1);                                                    // padding
      EXPECT_EQ(Text(table, ids), fields[column]) << name;
      ++compared;
    }
  }
  return compared;
}

TEST(DetokenizeTest, EqualsWeNetsTranscripts) {
  TING_REQUIRE_SHARED();
  const std::vector<std::pair<std::string, std::string>> folders = {
      {"tiny", "tiny"}, {"u2pp", "u2pp"}, {"aishell", "aishell"}, {"shipped", "tiny"}};
  for (const auto& [golden, model] : folders) {
    SCOPED_TRACE(golden);
    auto table = TokenTable::Parse(ReadWholeFile(SharedPath("models/" + model + "/units.txt")));
    ASSERT_TRUE(table.ok()) << table.status().ToString();
    EXPECT_GE(CompareTranscripts(SharedPath("golden/" + golden), *table), 24);
  }
}

}  // namespace
}  // namespace ting
