// tests/base/status_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "ting/status.h"

#include <gtest/gtest.h>

#include <memory>

#include "base/status_macros.h"

namespace ting {
namespace {

TEST(Status, DefaultIsOk) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.ToString(), "ok");
  EXPECT_EQ(status.WithContext("reading x").ToString(), "ok");
}

TEST(Status, ContextGoesInFront) {
  const Status status = DataLoss("final.pt: truncated at byte {}", 7);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.WithContext("loading model/").ToString(),
            "data loss: loading model/: final.pt: truncated at byte 7");
  EXPECT_EQ(status.WithContext("loading model/").code(), StatusCode::kDataLoss);
}

TEST(Status, EveryCodeHasAName) {
  for (int code = 0; code <= static_cast<int>(StatusCode::kInternal); ++code) {
    EXPECT_STRNE(StatusCodeName(static_cast<StatusCode>(code)), "unknown") << code;
  }
  EXPECT_STREQ(StatusCodeName(static_cast<StatusCode>(99)), "unknown");
}

Result<int> Half(int x) {
  if (x % 2 != 0) return InvalidArgument("{} is odd", x);
  return x / 2;
}

Result<int> Quarter(int x) {
  TING_ASSIGN_OR_RETURN(const int half, Half(x));
  TING_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

Status CheckQuarter(int x) {
  TING_RETURN_IF_ERROR(Quarter(x).status());
  return {};
}

TEST(Result, MacrosPassValuesAndFailuresOn) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).status().message(), "3 is odd");
  EXPECT_TRUE(CheckQuarter(12).ok());
  EXPECT_EQ(CheckQuarter(7).message(), "7 is odd");
}

TEST(Result, HoldsWhatCanOnlyBeMoved) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(**result, 5);
  const std::unique_ptr<int> moved = std::move(result).value();
  EXPECT_EQ(*moved, 5);
}

TEST(ResultDeathTest, TheValueOfAFailureEndsTheProgramWithItsReason) {
  const Result<int> result = Half(3);
  EXPECT_DEATH((void)result.value(), "3 is odd");
}

}  // namespace
}  // namespace ting
