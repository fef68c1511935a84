// tests/runtime/executor_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor.h"

#include <gtest/gtest.h>

#include "graph/parser.h"

namespace ting {
namespace {

constexpr const char* kText =
    "graph g(%a: f32[R, 2], %b: f32[R, 2]) -> (%sum, %twice) {\n"
    "  %sum: f32[R, 2] = add(%a, %b)\n"
    "  %twice: f32[R, 2] = add(%sum, %sum) {scale = 1.0}\n"
    "}\n";

class ExecutorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = std::move(CreateCpuDevice("ref", pool_)).value();
    executor_ = std::move(Executor::Create(*ParseGraph(kText), {}, *device_)).value();
    stream_ = std::move(device_->CreateStream()).value();
  }
  Status Run(std::vector<float>& a, std::vector<float>& b) {
    const auto view = [](std::vector<float>& x) {
      return TensorView{x.data(), DType::kF32, {static_cast<int64_t>(x.size()) / 2, 2}};
    };
    const StepInput inputs[] = {{view(a)}, {view(b)}};
    return executor_->Run(inputs, {}, {}, *stream_, &outputs_);
  }

  ThreadPool pool_{1};
  std::unique_ptr<Device> device_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Stream> stream_;
  std::vector<StepOutput> outputs_;
};

TEST_F(ExecutorTest, RunsAnyNumberOfRowsAndGrowsItsArenaOnlyWhenNeeded) {
  size_t largest = 0;
  for (const int rows : {1, 50, 3, 50, 0, 7}) {
    std::vector<float> a(rows * 2), b(rows * 2);
    for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i), b[i] = 0.5F;
    ASSERT_TRUE(Run(a, b).ok());
    ASSERT_EQ(outputs_[1].tensor.shape, (Shape{rows, 2}));
    for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(outputs_[1].tensor.as<float>()[i], 2 * (a[i] + b[i]));
    EXPECT_GE(executor_->arena_bytes(), largest);
    largest = executor_->arena_bytes();
  }
  EXPECT_EQ(largest, size_t{2} * 448);  // two values of 50 rows, rounded up to cache lines
}

TEST_F(ExecutorTest, SaysWhichInputIsWrong) {
  std::vector<float> a(4), b(6);
  EXPECT_NE(Run(a, b).message().find("R is 2 in one input and 3 in another"), std::string::npos);
  EXPECT_FALSE(executor_->Run({}, {}, {}, *stream_, &outputs_).ok());
  const StepInput wrong[] = {{{a.data(), DType::kS32, {2, 2}}}, {{b.data(), DType::kF32, {3, 2}}}};
  EXPECT_NE(executor_->Run(wrong, {}, {}, *stream_, &outputs_).message().find("input %a is f32[R, 2], not s32[2,2]"),
            std::string::npos);
}

TEST_F(ExecutorTest, RefusesAGraphThatNothingCanRun) {
  const auto executor =
      Executor::Create(*ParseGraph("graph g(%a: f32[R, 2]) -> (%y) {\n  %y: f32[R, 2] = dream(%a)\n}\n"), {}, *device_);
  EXPECT_NE(executor.status().message().find("no implementation of dream"), std::string::npos);
}

TEST_F(ExecutorTest, CountsNodeTimesWhenAsked) {
  executor_->EnableProfile();
  std::vector<float> a(4), b(4);
  ASSERT_TRUE(Run(a, b).ok());
  ASSERT_TRUE(Run(a, b).ok());
  ASSERT_EQ(executor_->Profile().size(), 2U);
  EXPECT_EQ(executor_->Profile()[0].calls, 2);
  EXPECT_EQ(executor_->Profile()[0].implementation, "ref");
}

}  // namespace
}  // namespace ting
