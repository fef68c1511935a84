// tests/importers/seeds_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The seeds of the fuzzers: files named refused_* are refused, all others accepted. The pickles and zips among them
// were written by Python's own pickle and zipfile, so this also compares the readers with their reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "base/mmap_file.h"
#include "importers/checkpoint/cmvn.h"
#include "importers/checkpoint/model_config.h"
#include "importers/checkpoint/pickle_reader.h"
#include "importers/checkpoint/state_dict.h"
#include "tests/importers/crafted_checkpoint.h"
#include "tests/support/paths.h"
#include "text/token_table.h"

namespace ting {
namespace {

// Calls `read` on each seed of the target; checks its answer against the file's name.
void ExpectSeeds(const std::string& target, const std::function<Status(const std::string&)>& read) {
  int accepted = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(testing::SourcePath("tests/fuzz/corpus/" + target))) {
    const std::string name = entry.path().filename().string();
    const auto text = ReadTextFile(entry.path().string());
    ASSERT_TRUE(text.ok()) << text.status().ToString();
    const Status status = read(*text);
    EXPECT_EQ(status.ok(), !name.starts_with("refused_")) << name << ": " << status.ToString();
    ++(status.ok() ? accepted : refused);
  }
  EXPECT_GE(accepted, 2) << target;
  EXPECT_GE(refused, 1) << target;
}

TEST(Seeds, Pickle) {
  ExpectSeeds("pickle", [](const std::string& s) { return PickleDocument::Parse(testing::AsBytes(s)).status(); });
}
TEST(Seeds, Checkpoint) {
  ExpectSeeds("checkpoint",
              [](const std::string& s) { return StateDict::Parse(testing::AsBytes(s), nullptr).status(); });
}
TEST(Seeds, Yaml) {
  ExpectSeeds("yaml", [](const std::string& s) { return ParseTrainYaml(s).status(); });
}
TEST(Seeds, Units) {
  ExpectSeeds("units", [](const std::string& s) { return TokenTable::Parse(s).status(); });
}
TEST(Seeds, Cmvn) {
  ExpectSeeds("cmvn", [](const std::string& s) { return ParseCmvn(s).status(); });
}

// Values through strides, offsets and types, from a zip and a pickle that Python wrote.
TEST(Seeds, CheckpointOfPythonHasItsValues) {
  const auto text = ReadTextFile(testing::SourcePath("tests/fuzz/corpus/checkpoint/state_dict"));
  ASSERT_TRUE(text.ok());
  const auto dict = StateDict::Parse(testing::AsBytes(*text), nullptr);
  ASSERT_TRUE(dict.ok()) << dict.status().ToString();
  EXPECT_EQ(*dict->ReadF32("encoder.w"), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(*dict->ReadF32("encoder.t"), (std::vector<float>{0, 3, 1, 4, 2, 5}));  // [3, 2] view of [2, 3]
  EXPECT_EQ(*dict->ReadF32("ctc.b"), (std::vector<float>{3, 0}));
  EXPECT_EQ(dict->num_parameters(), 14);
}

}  // namespace
}  // namespace ting
