// tests/support/take_case.h
// SPDX-License-Identifier: Apache-2.0
//
// A sanitizer takes hundreds of times as long as the tests alone. Where a test goes through many cases alike, it asks
// here which of them to take.
#pragma once

#include <algorithm>
#include <cstdlib>

namespace ting::cuda {

// Every case, or with TING_TEST_EVERY=N in the environment one of N. `pair`: the case's blocks are in clusters of two.
// racecheck lets no warp out of the cluster barrier's wait until all of the block have come to theirs, so that most of
// those stand still; TING_TEST_PAIRS=0 leaves them out.
inline bool TakeCase(bool pair = false) {
  static const int every = [] {
    const char* value = std::getenv("TING_TEST_EVERY");
    return value == nullptr ? 1 : std::max(1, std::atoi(value));
  }();
  static const bool pairs = [] {
    const char* value = std::getenv("TING_TEST_PAIRS");
    return value == nullptr || std::atoi(value) != 0;
  }();
  static int number = 0;
  return (pairs || !pair) && number++ % every == 0;
}

}  // namespace ting::cuda
