// tests/support/take_case.h
// SPDX-License-Identifier: Apache-2.0
//
// A sanitizer takes hundreds of times as long as the tests alone. Where a test goes through many cases alike, it asks
// here which of them to take, or whether few should do.
#pragma once

#include <algorithm>
#include <cstdlib>

namespace ting::cuda {

// N of TING_TEST_EVERY=N in the environment, or 1.
inline int TakenEvery() {
  static const int every = [] {
    const char* value = std::getenv("TING_TEST_EVERY");
    return value == nullptr ? 1 : std::max(1, std::atoi(value));
  }();
  return every;
}

// Every case, or one of N.
inline bool TakeCase() {
  static int number = 0;
  return number++ % TakenEvery() == 0;
}
inline bool TakeFew() { return TakenEvery() > 1; }

}  // namespace ting::cuda
