// tests/graph/op_table_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/op_table.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "tests/support/paths.h"

namespace ting {
namespace {

TEST(OpTableTest, EveryOpHasAContractAndUniqueNames) {
  std::set<std::string_view> names;
  for (const OpSpec& op : AllOps()) {
    EXPECT_TRUE(names.insert(op.name).second) << op.name;
    EXPECT_EQ(FindOp(op.name), &op);
    const std::string header = testing::SourcePath("src/kernels/" + std::string(op.contract) + ".h");
    EXPECT_TRUE(std::filesystem::exists(header)) << header;
    std::set<std::string_view> slots;
    for (const SlotSpec& slot : op.slots) EXPECT_TRUE(slots.insert(slot.name).second) << op.name << " " << slot.name;
  }
  EXPECT_EQ(FindOp("transmogrify"), nullptr);
}

}  // namespace
}  // namespace ting
