// tests/support/gtest_subset/run_all_tests.cc
// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <string_view>

#include "gtest/gtest.h"

namespace testing {
namespace {

using internal::GetState;

// '*' stands for any text, '?' for any character.
bool Matches(std::string_view text, std::string_view pattern) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    return Matches(text, pattern.substr(1)) || (!text.empty() && Matches(text.substr(1), pattern));
  }
  return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) && Matches(text.substr(1), pattern.substr(1));
}

bool MatchesAny(std::string_view text, std::string_view patterns) {
  while (true) {
    const size_t end = patterns.find(':');
    if (Matches(text, patterns.substr(0, end))) return true;
    if (end == std::string_view::npos) return false;
    patterns.remove_prefix(end + 1);
  }
}

// "wanted:wanted-unwanted:unwanted"; nothing in front of the minus is everything.
bool Selected(std::string_view name, std::string_view filter) {
  const size_t minus = filter.find('-');
  const std::string_view wanted = filter.substr(0, minus);
  if (!wanted.empty() && !MatchesAny(name, wanted)) return false;
  return minus == std::string_view::npos || !MatchesAny(name, filter.substr(minus + 1));
}

// Sets the state's flags. An exception is a failure, and ends the test alone.
void Run(const internal::RegisteredTest& registered) {
  GetState().failed = GetState().failed_fatally = GetState().skipped = false;
  try {
    const std::unique_ptr<Test> test = registered.make();
    test->SetUp();
    if (!Test::HasFatalFailure() && !GetState().skipped) test->TestBody();
    test->TearDown();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "exception: " << error.what();
  }
}

// As GoogleTest: "Suite." before the first of its tests, then each test's own name.
void List(std::string_view name, std::string_view& suite) {
  const size_t end = name.find('.') + 1;
  if (name.substr(0, end) != suite) std::cout << name.substr(0, end) << "\n";
  suite = name.substr(0, end);
  std::cout << "  " << name.substr(end) << "\n";
}

}  // namespace

int RunAllTests(int argc, char** argv) {
  std::string_view filter = "*";
  bool list = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--gtest_filter=")) filter = argument.substr(argument.find('=') + 1);
    if (argument == "--gtest_list_tests") list = true;
  }
  for (const auto& expand : GetState().expand) expand();
  int num_run = 0, num_skipped = 0;
  std::string_view suite;
  std::vector<std::string> failed;
  const auto start = std::chrono::steady_clock::now();
  for (const internal::RegisteredTest& test : GetState().tests) {
    if (!Selected(test.name, filter)) continue;
    if (list) {
      List(test.name, suite);
      continue;
    }
    Run(test);
    ++num_run, num_skipped += GetState().skipped;
    if (GetState().failed) failed.push_back(test.name);
    if (GetState().failed) std::cout << "[  FAILED  ] " << test.name << std::endl;
  }
  if (list) return 0;
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  std::cout << "[==========] " << num_run << " tests ran. (" << ms.count() << " ms total)\n[  PASSED  ] "
            << num_run - num_skipped - static_cast<int>(failed.size()) << " tests.\n";
  if (num_skipped > 0) std::cout << "[  SKIPPED ] " << num_skipped << " tests.\n";
  if (!failed.empty()) std::cout << "[  FAILED  ] " << failed.size() << " tests.\n";
  return failed.empty() && num_run > 0 ? 0 : 1;
}

}  // namespace testing
