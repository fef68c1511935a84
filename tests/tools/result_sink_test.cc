// tests/tools/result_sink_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/result_sink.h"

#include <gmock/gmock.h>

namespace ting::tool {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST(FindResumePoint, KaldiLines) {
  const auto point = FindResumePoint(ResultFormat::kKaldi, "u1 你好\nu2 \nu3\nu4 half wri");
  ASSERT_TRUE(point.ok());
  EXPECT_THAT(point->keys, UnorderedElementsAre("u1", "u2", "u3"));
  EXPECT_EQ(point->complete_bytes, std::string("u1 你好\nu2 \nu3\n").size());
}

TEST(FindResumePoint, JsonLines) {
  const std::string complete = "{\"key\":\"u1\",\"text\":\"a\"}\n{\"key\":\"u2\"}\n";
  const auto point = FindResumePoint(ResultFormat::kJsonl, complete + "{\"key\":\"u3\",\"te");
  ASSERT_TRUE(point.ok());
  EXPECT_THAT(point->keys, UnorderedElementsAre("u1", "u2"));
  EXPECT_EQ(point->complete_bytes, complete.size());
}

TEST(FindResumePoint, RefusesAFileOfAnotherKind) {
  const auto point = FindResumePoint(ResultFormat::kJsonl, "{\"key\":\"u1\"}\nu2 text\n");
  ASSERT_FALSE(point.ok());
  EXPECT_THAT(point.status().message(), HasSubstr("line 2 is not a jsonl result"));
  EXPECT_FALSE(FindResumePoint(ResultFormat::kJsonl, "[1]\n").ok());
  EXPECT_FALSE(FindResumePoint(ResultFormat::kJsonl, "{\"key\":7}\n").ok());
}

TEST(FindResumePoint, TheLastRecordingOfACtmIsDoneAgain) {
  const std::string first = "u1 1 0.00 0.10 a 0.9\nu1 1 0.10 0.10 b 0.9\n";
  const auto point = FindResumePoint(ResultFormat::kCtm, first + "u2 1 0.00 0.10 c 0.9\nu2 1 0.1");
  ASSERT_TRUE(point.ok());
  EXPECT_THAT(point->keys, UnorderedElementsAre("u1"));
  EXPECT_EQ(point->complete_bytes, first.size());
}

TEST(FindResumePoint, EmptyFilesAndFilesOfHalfALine) {
  for (const ResultFormat format : {ResultFormat::kKaldi, ResultFormat::kJsonl, ResultFormat::kCtm}) {
    for (const char* file : {"", "u1"}) {
      const auto point = FindResumePoint(format, file);
      ASSERT_TRUE(point.ok());
      EXPECT_THAT(point->keys, IsEmpty());
      EXPECT_EQ(point->complete_bytes, 0U);
    }
  }
}

TEST(CheckSinkOptions, ResumeNeedsAFileThatHoldsKeys) {
  EXPECT_THAT(CheckSinkOptions({ResultFormat::kKaldi, "", true}).message(), HasSubstr("--resume needs -o"));
  EXPECT_THAT(CheckSinkOptions({ResultFormat::kText, "out.txt", true}).message(), HasSubstr("kaldi, jsonl or ctm"));
  EXPECT_THAT(CheckSinkOptions({ResultFormat::kSrt, "out.srt", true}).message(), HasSubstr("kaldi, jsonl or ctm"));
  EXPECT_TRUE(CheckSinkOptions({ResultFormat::kSrt, "folder/", true}).ok());
  EXPECT_TRUE(CheckSinkOptions({ResultFormat::kCtm, "out.ctm", true}).ok());
  EXPECT_TRUE(CheckSinkOptions({ResultFormat::kText, "", false}).ok());
}

}  // namespace
}  // namespace ting::tool
