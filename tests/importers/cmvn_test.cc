// tests/importers/cmvn_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/cmvn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ting {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Refusal(const std::string& text) {
  const auto cmvn = ParseCmvn(text);
  return cmvn.ok() ? "accepted" : cmvn.status().message();
}

// 4 frames: bin 0 holds 1, 3, 1, 3 (mean 2, variance 1), bin 1 holds 5 each (variance 0, so the floor).
constexpr char kJson[] = R"({"mean_stat": [8, 20.0], "var_stat": [20, 100], "frame_num": 4})";
constexpr char kKaldi[] = "[ 8 2.0e+01 4\n  20 100 0 ]\n";

TEST(Cmvn, ReadsJsonAndKaldiText) {
  for (const char* text : {kJson, kKaldi}) {
    const auto cmvn = ParseCmvn(text);
    ASSERT_TRUE(cmvn.ok()) << cmvn.status().ToString();
    EXPECT_THAT(cmvn->mean, ElementsAre(2.0F, 5.0F));
    EXPECT_THAT(cmvn->istd, ElementsAre(1.0F, 1e10F));
  }
}

TEST(Cmvn, RefusesBinaryKaldi) { EXPECT_THAT(Refusal(std::string("\0BDM \4\2\0\0\0", 10)), HasSubstr("binary Kaldi")); }

TEST(Cmvn, RefusesWrongJson) {
  EXPECT_THAT(Refusal("{"), HasSubstr("not a valid JSON"));
  EXPECT_THAT(Refusal("{}"), HasSubstr("no list mean_stat"));
  EXPECT_THAT(Refusal(R"({"mean_stat": [1]})"), HasSubstr("no list var_stat"));
  EXPECT_THAT(Refusal(R"({"mean_stat": [1], "var_stat": [1]})"), HasSubstr("no number frame_num"));
  EXPECT_THAT(Refusal(R"({"mean_stat": ["1"], "var_stat": [1], "frame_num": 1})"), HasSubstr("other than numbers"));
  EXPECT_THAT(Refusal(R"({"mean_stat": [1], "var_stat": [1, 2], "frame_num": 1})"), HasSubstr("1 sums and 2"));
  EXPECT_THAT(Refusal(R"({"mean_stat": [], "var_stat": [], "frame_num": 1})"), HasSubstr("0 sums"));
  EXPECT_THAT(Refusal(R"({"mean_stat": [1], "var_stat": [1], "frame_num": 0})"), HasSubstr("must be positive"));
  EXPECT_THAT(Refusal(R"({"mean_stat": [1], "var_stat": [1], "frame_num": -3})"), HasSubstr("must be positive"));
  EXPECT_THAT(Refusal(R"({"mean_stat": [1e300], "var_stat": [1], "frame_num": 1})"), HasSubstr("bin 0"));
  EXPECT_THAT(Refusal(std::string(500000, '[')), HasSubstr("not a number"));
  EXPECT_THAT(Refusal("{\"a\":" + std::string(500000, '[')), HasSubstr("not a valid JSON"));
}

TEST(Cmvn, RefusesWrongKaldiText) {
  EXPECT_THAT(Refusal("[ 8 20 4 20 100 0"), HasSubstr("closing bracket is missing"));
  EXPECT_THAT(Refusal("[ 8 20 4 20 100 7 ]"), HasSubstr("expected [ sums"));
  EXPECT_THAT(Refusal("[ 8 4 20 100 0 ]"), HasSubstr("5 numbers"));
  EXPECT_THAT(Refusal("[ ]"), HasSubstr("0 numbers"));
  EXPECT_THAT(Refusal("[ 8 x 20 0 ]"), HasSubstr("x is not a number"));
  EXPECT_THAT(Refusal("[ 8 4 20 0 ] more"), HasSubstr("after the closing bracket"));
  EXPECT_THAT(Refusal("[ nan 4 20 0 ]"), HasSubstr("bin 0"));
  EXPECT_THAT(Refusal(""), HasSubstr("neither JSON"));
  EXPECT_THAT(Refusal("8 20 4"), HasSubstr("neither JSON"));
}

}  // namespace
}  // namespace ting
