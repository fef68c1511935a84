// tests/text/text_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// Small token tables and whole files for the tests of text/.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "text/token_table.h"

namespace ting::testing {

inline std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

inline std::vector<std::string> SplitOn(const std::string& text, char separator) {
  std::vector<std::string> fields;
  std::istringstream in(text);
  for (std::string field; std::getline(in, field, separator);) fields.push_back(field);
  return fields;
}

// The table whose ids are the positions in `units`.
inline TokenTable MakeTable(const std::vector<std::string>& units) {
  std::string text;
  for (size_t i = 0; i < units.size(); ++i) text += units[i] + " " + std::to_string(i) + "\n";
  auto table = TokenTable::Parse(text);
  EXPECT_TRUE(table.ok()) << table.status().ToString();
  return *table;
}

}  // namespace ting::testing
