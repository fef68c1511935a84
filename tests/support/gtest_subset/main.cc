// tests/support/gtest_subset/main.cc
// SPDX-License-Identifier: Apache-2.0
#include "gtest/gtest.h"

int main(int argc, char** argv) { return testing::RunAllTests(argc, argv); }
