// tests/support/gtest_subset/subset_check.cc
// SPDX-License-Identifier: Apache-2.0
//
// Whether the subset tells right from wrong: every test of suite Right passes or skips, every test of suite Wrong
// fails. CMakeLists.txt runs them apart, and each of Wrong alone.
#include <stdexcept>

#include "gtest/gtest.h"

namespace testing {
namespace {

TEST(Right, Assertions) {
  EXPECT_EQ(1 + 1, 2) << "not reached";
  EXPECT_NEAR(1.0, 1.5, 0.5);
  ASSERT_TRUE(!HasFailure());
  if (false)
    EXPECT_EQ(1, 2);
  else
    SCOPED_TRACE("an else behind a macro is its own");
}
TEST(Right, Skips) {
  GTEST_SKIP() << "as it should";
  EXPECT_TRUE(false);  // not reached
}

class Wrong : public Test {};
TEST_F(Wrong, Expectation) { EXPECT_LT(2, 1); }
TEST_F(Wrong, NotANumber) { EXPECT_NEAR(NAN, 0, 1); }
TEST_F(Wrong, Helper) {
  [] { ASSERT_EQ(std::vector<int>{1}, std::vector<int>{2}); }();
}
TEST_F(Wrong, Exception) { throw std::runtime_error("as it should"); }
class WrongSetUp : public Test {
 protected:
  void SetUp() override { FAIL() << "as it should"; }
};
TEST_F(WrongSetUp, Body) {}

template <typename T>
class Typed : public Test {};
using Sizes = Types<int, char>;
TYPED_TEST_SUITE(Typed, Sizes);
TYPED_TEST(Typed, Right) { EXPECT_GT(sizeof(TypeParam), 0U); }
TYPED_TEST(Typed, Wrong) { EXPECT_EQ(sizeof(TypeParam), 0U); }

class Param : public TestWithParam<std::tuple<int, std::string>> {};
TEST_P(Param, Right) { EXPECT_EQ(std::get<1>(GetParam()), std::to_string(std::get<0>(GetParam()))); }
TEST_P(Param, Wrong) { EXPECT_EQ(std::get<0>(GetParam()), 4); }
INSTANTIATE_TEST_SUITE_P(One, Param, Combine(Values(3), ValuesIn(std::vector<std::string>{"3"})),
                         [](const auto& info) { return std::get<1>(info.param); });

}  // namespace
}  // namespace testing
