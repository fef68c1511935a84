// tests/runtime/dispatch_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/dispatch.h"

#include <gmock/gmock.h>

#include "graph/parser.h"

namespace ting {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<std::unique_ptr<Kernel>> CreateNothing(const OpDesc&) {
  return Status(StatusCode::kInternal, "not to be created");
}

// "picky" takes %sum alone.
constexpr KernelEntry kEntries[] = {
    {"add", "picky",
     [](const OpDesc& desc) -> std::optional<std::string> {
       if (desc.node == "sum") return std::nullopt;
       return "only %sum";
     },
     CreateNothing},
    {"add", "never", [](const OpDesc&) -> std::optional<std::string> { return "never"; }, CreateNothing},
    {"add", "plain", [](const OpDesc&) -> std::optional<std::string> { return std::nullopt; }, CreateNothing},
};

class ListedDevice : public Device {
 public:
  explicit ListedDevice(std::span<const KernelEntry> entries) : entries_(entries) {}
  const std::string& name() const override { return name_; }
  Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t) override { return Status(StatusCode::kInternal, "no memory"); }
  Result<std::unique_ptr<Stream>> CreateStream() override { return Status(StatusCode::kInternal, "no stream"); }
  std::span<const KernelEntry> kernels() const override { return entries_; }

 private:
  std::string name_ = "listed";
  std::span<const KernelEntry> entries_;
};

constexpr const char* kText =
    "graph g(%a: f32[R, 2], %b: f32[R, 2]) -> (%twice) {\n"
    "  %sum: f32[R, 2] = add(%a, %b)\n"
    "  %twice: f32[R, 2] = add(%sum, %sum)\n"
    "}\n";

TEST(Dispatch, TellsTheChoiceAndEveryRefusalBeforeIt) {
  ListedDevice device(kEntries);
  const auto choices = ExplainDispatch(*ParseGraph(kText), {}, device);
  ASSERT_TRUE(choices.ok()) << choices.status().ToString();
  ASSERT_EQ(choices->size(), 2U);
  EXPECT_EQ((*choices)[0].node, "sum");
  EXPECT_EQ((*choices)[0].implementation, "picky");
  EXPECT_TRUE((*choices)[0].refusals.empty());
  EXPECT_EQ((*choices)[1].implementation, "plain");
  EXPECT_THAT((*choices)[1].refusals, ElementsAre("picky: only %sum", "never: never"));
}

TEST(Dispatch, ANodeThatNothingRunsHasNoImplementation) {
  ListedDevice device({kEntries, 2});
  const auto choices = ExplainDispatch(*ParseGraph(kText), {}, device);
  ASSERT_TRUE(choices.ok());
  EXPECT_EQ((*choices)[1].implementation, "");
  EXPECT_EQ((*choices)[1].refusals.size(), 2U);
  const OpDesc desc{"add", "twice", {}, {}, nullptr};
  EXPECT_THAT(CreateKernel(device.kernels(), desc, nullptr).status().message(),
              HasSubstr("no implementation of add accepts it: picky: only %sum; never: never"));
}

}  // namespace
}  // namespace ting
