// tests/text/token_table_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/token_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "tests/support/paths.h"

namespace ting {
namespace {

using ::testing::HasSubstr;

std::string Refusal(const std::string& text) {
  const auto table = TokenTable::Parse(text);
  return table.ok() ? "accepted" : table.status().message();
}

TEST(TokenTable, ReadsUnits) {
  const auto table = TokenTable::Parse("<blank> 0\n<unk> 1\n\xe2\x96\x81 2\r\n一\t3\n\n<sos/eos>   4");
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  EXPECT_EQ(table->size(), 5);
  EXPECT_EQ(table->text(3), "一");
  EXPECT_EQ(table->Find("<sos/eos>"), 4);
  EXPECT_EQ(table->Find("二"), std::nullopt);
  EXPECT_EQ(table->kind(), "char");  // the lone boundary is a character among others
}

TEST(TokenTable, ReadsAnyOrderAndByteOrderMark) {
  const auto table = TokenTable::Parse(
      "\xef\xbb\xbf"
      "b 1\na 0\n");
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  EXPECT_EQ(table->text(0), "a");
  EXPECT_EQ(table->ToText(), "a 0\nb 1\n");
}

// Found by fuzzing: a token may begin with the character of the byte-order mark.
TEST(TokenTable, KeepsMarkOfFirstToken) {
  const auto table = TokenTable::Parse(
      "\xef\xbb\xbf\xef\xbb\xbf"
      "a 0\n");
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  const auto again = TokenTable::Parse(table->ToText());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->text(0), table->text(0));
}

TEST(TokenTable, RecognisesBpe) {
  const auto table = TokenTable::Parse("<blank> 0\n\xe2\x96\x81THE 1\nING 2\n");
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  EXPECT_EQ(table->kind(), "bpe");
}

TEST(TokenTable, RefusesWithTheLine) {
  EXPECT_THAT(Refusal(""), HasSubstr("empty"));
  EXPECT_THAT(Refusal("\n \n"), HasSubstr("empty"));
  EXPECT_THAT(Refusal("a 0\nb\n"), HasSubstr("line 2: expected"));
  EXPECT_THAT(Refusal("a 0\n\nb x\n"), HasSubstr("line 3: the id must be a number"));
  EXPECT_THAT(Refusal("a 0\nb -1\n"), HasSubstr("line 2: the id"));
  EXPECT_THAT(Refusal("a 0\nb 1.0\n"), HasSubstr("line 2: the id"));
  EXPECT_THAT(Refusal("a 0\nb 99999999999999999999\n"), HasSubstr("line 2: the id"));
  EXPECT_THAT(Refusal("a 0\nb 2\n"), HasSubstr("line 2: id 2 in a list of 2"));
  EXPECT_THAT(Refusal("a 0\nb 0\n"), HasSubstr("line 2: id 0 was given to a before"));
  EXPECT_THAT(Refusal("a 0\na 1\n"), HasSubstr("line 2: the unit a occurs a second time"));
  EXPECT_THAT(Refusal("a 0\nb c 1\n"), HasSubstr("line 2: white space"));
  EXPECT_THAT(Refusal("a 0\n\x1b[2J 1\n"), HasSubstr("line 2: a control character"));
  EXPECT_THAT(Refusal(std::string("a 0\nb\0 1\n", 9)), HasSubstr("line 2: a control character"));
  EXPECT_THAT(Refusal("a 0\n\xff\xfe 1\n"), HasSubstr("line 2: the token is not valid UTF-8"));
}

TEST(TokenTable, ValidatesUtf8) {
  for (const char* good : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf",
                           "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "听"}) {
    EXPECT_TRUE(IsValidUtf8(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x96",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x96\x81\x81"}) {
    EXPECT_FALSE(IsValidUtf8(bad));
  }
}

TEST(TokenTable, RoundTripsRealUnits) {
  TING_REQUIRE_SHARED();
  std::ifstream in(testing::SharedPath("models/aishell/units.txt"));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto table = TokenTable::Parse(text);
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  EXPECT_EQ(table->size(), 4233);
  EXPECT_EQ(table->ToText(), text);
}

}  // namespace
}  // namespace ting
