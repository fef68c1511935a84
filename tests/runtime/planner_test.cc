// tests/runtime/planner_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/planner.h"

#include <gtest/gtest.h>

#include <random>

namespace ting {
namespace {

TEST(PlannerTest, ReusesMemoryOfTheDead) {
  std::vector<size_t> offsets;
  EXPECT_EQ(PlanBuffers({{1000, 0, 1}, {1000, 1, 2}, {1000, 2, 3}}, &offsets), 2048U);
  EXPECT_EQ(offsets[0], offsets[2]);
  EXPECT_NE(offsets[0], offsets[1]);
  EXPECT_EQ(PlanBuffers({}, &offsets), 0U);
}

TEST(PlannerTest, BuffersThatLiveTogetherNeverOverlap) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<BufferRequest> requests(1 + random() % 40);
    size_t sum = 0;
    for (BufferRequest& request : requests) {
      request.first_node = static_cast<int>(random() % 20);
      request.last_node = request.first_node + static_cast<int>(random() % 5);
      request.bytes = random() % 5 == 0 ? 0 : random() % 5000;
      sum += (request.bytes + 63) / 64 * 64;
    }
    std::vector<size_t> offsets;
    const size_t total = PlanBuffers(requests, &offsets);
    EXPECT_LE(total, sum);
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(offsets[i] % 64, 0U);
      EXPECT_LE(offsets[i] + requests[i].bytes, total);
      for (size_t j = 0; j < i; ++j) {
        const auto &a = requests[i], &b = requests[j];
        const bool together = a.first_node <= b.last_node && b.first_node <= a.last_node;
        const bool apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
        ASSERT_TRUE(!together || apart) << "round " << round;
      }
    }
  }
}

}  // namespace
}  // namespace ting
