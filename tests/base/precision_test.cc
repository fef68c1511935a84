// tests/base/precision_test.cc
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "ting/options.h"

namespace ting {
namespace {

TEST(Precision, NamesAreReadBack) {
  for (const char* name : {"f32", "tf32", "f16", "bf16", "bf16x1", "bf16x3", "int16"}) {
    const auto precision = ParsePrecision(name);
    ASSERT_TRUE(precision.has_value()) << name;
    EXPECT_STREQ(PrecisionName(*precision), name);
  }
  for (const char* name : {"", "bf16x", "bf16x2", "F32", "int8"})
    EXPECT_FALSE(ParsePrecision(name).has_value()) << name;
}

}  // namespace
}  // namespace ting
