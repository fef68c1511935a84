// tests/support/take_case.h
// SPDX-License-Identifier: Apache-2.0
//
// A sanitizer takes hundreds of times as long as the tests alone. Where a test goes through many cases alike, it asks
// here which of them to take.
#pragma once

#include <algorithm>
#include <cstdlib>

namespace ting::cuda {

// Every case, or with TING_TEST_EVERY=N in the environment one of N.
inline bool TakeCase() {
  static const int every = [] {
    const char* value = std::getenv("TING_TEST_EVERY");
    return value == nullptr ? 1 : std::max(1, std::atoi(value));
  }();
  static int number = 0;
  return number++ % every == 0;
}

}  // namespace ting::cuda
