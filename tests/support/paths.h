// tests/support/paths.h
// SPDX-License-Identifier: Apache-2.0
//
// Where tests find their material. The shipped model, recordings and goldens are in the repository; the large
// ones (TING_SHARED, by default ../shared beside the repository) are not on a user's machine: tests that need
// them skip there and say so, but in CI (CI=true) a missing folder is a failure.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace ting::testing {

std::string SourcePath(const std::string& relative);  // in the repository
bool HasShared();                                     // is the folder of large material there?
std::string SharedPath(const std::string& relative);  // in that folder

}  // namespace ting::testing

// First line of a test that needs the large material.
#define TING_REQUIRE_SHARED()                                                                          \
  do {                                                                                                 \
    if (!::ting::testing::HasShared()) {                                                               \
      if (std::getenv("CI") != nullptr) FAIL() << "TING_SHARED is missing, which CI must have";        \
      GTEST_SKIP() << "needs TING_SHARED (large models and recordings), which is not on this machine"; \
    }                                                                                                  \
  } while (false)
