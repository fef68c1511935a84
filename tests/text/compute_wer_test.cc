// tests/text/compute_wer_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Reports against those of WeNet's script, byte by byte: on lines written to be hard (tests/golden/wer) and on the four
// published transcripts of the AISHELL test set.
#include "text/compute_wer.h"

#include <gmock/gmock.h>

#include <cstdio>
#include <random>

#include "tests/support/paths.h"
#include "tests/text/text_testing.h"
#include "text/wer_tokens.h"

namespace ting {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using testing::ReadWholeFile;
using testing::SharedPath;
using testing::SourcePath;

WerReport Report(const std::string& references, const std::string& hypotheses, const WerOptions& options = {}) {
  auto report = ComputeWer(references, hypotheses, options);
  EXPECT_TRUE(report.ok()) << report.status().ToString();
  return report.ok() ? *report : WerReport{};
}

// EXPECT_EQ on megabytes would take minutes to print its difference.
void ExpectSameBytes(const std::string& actual, const std::string& expected) {
  if (actual == expected) return;
  const auto [a, b] = std::mismatch(actual.begin(), actual.end(), expected.begin(), expected.end());
  const size_t at = a - actual.begin(), from = at < 200 ? 0 : at - 200;
  ADD_FAILURE() << "sizes " << actual.size() << " and " << expected.size() << ", different at " << at << ":\n"
                << actual.substr(from, 400) << "\n--- expected\n"
                << expected.substr(from, 400);
}

TEST(ComputeWerTest, EqualsTheScriptOnHardLines) {
  const auto golden = [](const std::string& name) { return ReadWholeFile(SourcePath("tests/golden/wer/" + name)); };
  const std::string references = golden("ref.txt"), hypotheses = golden("hyp.txt");
  const WerReport characters = Report(references, hypotheses);
  ExpectSameBytes(FormatWerReport(characters), golden("char.txt"));
  EXPECT_EQ(characters.missing_hypotheses, 1);
  ExpectSameBytes(FormatWerReport(Report(references, hypotheses, {.characters = false, .case_sensitive = true})),
                  golden("word_case.txt"));
  ExpectSameBytes(FormatWerReport(Report(references, hypotheses, {.strip_tags = false}), WerDetail::kSummary),
                  golden("tags_summary.txt"));
}

struct AishellMode {
  const char* name;
  WerCounts overall;
};

class AishellTest : public ::testing::TestWithParam<AishellMode> {};

std::string Decompress(const std::string& path) {
  FILE* pipe = popen(("xz -dc '" + path + "'").c_str(), "r");
  std::string out;
  char buffer[1 << 16];
  for (size_t n = 0; pipe != nullptr && (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  if (pipe != nullptr) pclose(pipe);
  return out;
}

TEST_P(AishellTest, EqualsThePublishedReport) {
  TING_REQUIRE_SHARED();
  const std::string folder = SharedPath("real/golden/aishell_test/") + GetParam().name;
  const WerReport report =
      Report(ReadWholeFile(SharedPath("real/aishell/test_ref.txt")), ReadWholeFile(folder + "/hyp.txt"));
  EXPECT_EQ(report.overall, GetParam().overall);
  EXPECT_EQ(report.utterances.size(), 7176);
  WerCounts other{.reference_tokens = 3, .substitutions = 3}, mandarin = GetParam().overall;
  mandarin.reference_tokens -= 3, mandarin.substitutions -= 3;
  EXPECT_THAT(report.clusters, ElementsAre(Pair("Mandarin", mandarin), Pair("Other", other)));
  if (std::system("xz --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "counts compared; the text needs xz on PATH";
  const std::string published = Decompress(folder + "/wer.xz");
  ASSERT_GT(published.size(), 1000000);
  ExpectSameBytes(FormatWerReport(report), published);
}

INSTANTIATE_TEST_SUITE_P(Modes, AishellTest,
                         ::testing::Values(AishellMode{"attention", {104765, 99410, 4833, 522, 101}},
                                           AishellMode{"attention_rescoring", {104765, 99995, 4652, 118, 98}},
                                           AishellMode{"ctc_greedy_search", {104765, 99701, 4939, 125, 121}},
                                           AishellMode{"ctc_prefix_beam_search", {104765, 99700, 4941, 124, 121}}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ComputeWerTest, EqualCostsPreferDeletionThenInsertion) {
  const WerReport report = Report("a x y\n", "a y x\n", {.characters = false});
  ASSERT_EQ(report.utterances.size(), 1);
  // One deletion and one insertion, not two substitutions; traced from the end, the deletion is the last.
  EXPECT_THAT(report.utterances[0].reference, ElementsAre("", "X", "Y"));
  EXPECT_THAT(report.utterances[0].hypothesis, ElementsAre("Y", "X", ""));
  EXPECT_EQ(report.overall, (WerCounts{2, 1, 0, 1, 1}));
}

TEST(ComputeWerTest, RateIsInPercentAndZeroWithoutReference) {
  EXPECT_EQ((WerCounts{4, 3, 1, 0, 2}).rate(), 75.0);
  EXPECT_EQ((WerCounts{0, 0, 0, 0, 2}).rate(), 0.0);
}

TEST(ComputeWerTest, SkipsUnpairedLinesAndTakesTheLastHypothesis) {
  const WerReport report = Report("a 一\r\nb 二\n\nc 三", "c 三\rb 三\nd 四\nb 二");
  ASSERT_EQ(report.utterances.size(), 2);
  EXPECT_EQ(report.utterances[0].id, "b");
  EXPECT_EQ(report.overall, (WerCounts{2, 2, 0, 0, 0}));
  EXPECT_EQ(report.missing_hypotheses, 1);
  EXPECT_THAT(Report("", "").utterances, IsEmpty());
  EXPECT_THAT(FormatWerReport(Report("", ""), WerDetail::kSummary), "Overall -> 0.00 % N=0 C=0 S=0 D=0 I=0\n\n");
}

TEST(ComputeWerTest, IgnoresWordsInAnyCase) {
  const WerReport report = Report("a um yes ß", "a yes uh SS", {.characters = false, .ignore_words = {"Um", "uh"}});
  EXPECT_EQ(report.overall, (WerCounts{2, 2, 0, 0, 0}));
}

TEST(ComputeWerTest, RefusesWhatItCannotScore) {
  const auto message = [](std::string_view references, std::string_view hypotheses) {
    return ComputeWer(references, hypotheses).status().message();
  };
  EXPECT_THAT(message("a 一\nb \xff\n", "a 一"), HasSubstr("references: line 2 is not valid UTF-8"));
  EXPECT_THAT(message("a 一", "a \xe4\xb8"), HasSubstr("hypotheses: line 1"));
  EXPECT_THAT(message("a 一\na 二\n", "a 一"), HasSubstr("id a occurs a second time"));
  std::string many = "a";
  for (int i = 0; i < 50000; ++i) many += " x";
  EXPECT_THAT(ComputeWer(many, many, {.characters = false}).status().message(), HasSubstr("split the utterance"));
}

// A second way to the number of errors: the recurrence over suffixes, without traceback.
int64_t Distance(const std::vector<std::string>& a, const std::vector<std::string>& b, size_t i = 0, size_t j = 0) {
  if (i == a.size() || j == b.size()) return static_cast<int64_t>(a.size() - i + b.size() - j);
  if (a[i] == b[j]) return Distance(a, b, i + 1, j + 1);
  return 1 + std::min({Distance(a, b, i + 1, j), Distance(a, b, i, j + 1), Distance(a, b, i + 1, j + 1)});
}

TEST(ComputeWerTest, AlignmentsAreCheapestAndKeepTheTokens) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    std::string lines[2];
    for (std::string& line : lines) {
      line = "id";
      for (uint32_t n = random() % 7; n > 0; --n) line += std::string(" ") + "ABC"[random() % 3];
    }
    const WerReport report = Report(lines[0], lines[1]);
    ASSERT_EQ(report.utterances.size(), 1);
    const UtteranceWer& utterance = report.utterances[0];
    std::vector<std::string> sides[2] = {utterance.reference, utterance.hypothesis};
    for (int side = 0; side < 2; ++side) {
      std::erase(sides[side], "");
      std::string joined = "id";
      for (const std::string& token : sides[side]) joined += " " + token;
      EXPECT_EQ(joined, lines[side]);
    }
    EXPECT_EQ(utterance.counts.errors(), Distance(sides[0], sides[1])) << lines[0] << " / " << lines[1];
    EXPECT_EQ(utterance.counts.reference_tokens, static_cast<int64_t>(sides[0].size()));
  }
}

TEST(WerTokensTest, SplitsLinesLikeTheScript) {
  const auto split = [](std::string_view line) { return SplitWerLine(line, true); };
  EXPECT_THAT(split("id 你好"), ElementsAre("id", "你", "好"));
  EXPECT_THAT(split("a1b，c.d!e,f ,g"), ElementsAre("a1b", "c.d!e,f", "g"));
  EXPECT_THAT(split("<unk><noise>x<y z>"), ElementsAre("<unk>", "<noise>", "x<y", "z>"));
  EXPECT_THAT(split("<open tag"), ElementsAre("<open", "tag"));
  EXPECT_THAT(split("éa“b”"), ElementsAre("éa", "“b", "”"));
  EXPECT_THAT(split("１２"), ElementsAre("１", "２"));
  EXPECT_THAT(split(" \t\u3000\u00a0"), IsEmpty());
  EXPECT_THAT(SplitWerLine(" a，b\u3000c ", false), ElementsAre("a，b", "c"));
}

TEST(WerTokensTest, NamesClusters) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"明", "Mandarin"}, {"ABC", "English"}, {"IT'S", "English"}, {"2014", "Number"},
      {"3.5", "Number"},  {"A1", "Other"},    {"は", "Japanese"},  {"カ", "Other"},
      {".", "Other"},     {"", "Other"},      {"É", "English"},    {"１", "Other"},
      {"-5", "Number"},   {"A+B", "English"}, {"豈", "Mandarin"},  {"\u0001", "Other"}};
  for (const auto& [token, cluster] : cases) EXPECT_EQ(WerClusterOf(token), cluster) << token;
}

}  // namespace
}  // namespace ting
