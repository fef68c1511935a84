// tests/runtime/engine_file_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "graph/printer.h"
#include "tests/support/random_graph.h"

namespace ting {
namespace {

class EngineFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = (std::filesystem::temp_directory_path() / ("engine_file_test." + std::to_string(::getpid()))).string();
    testing::RandomGraph random(3);
    contents_.metadata = R"({"model":"test"})";
    contents_.module = random.Make();
    ASSERT_TRUE(WriteEngineFile(path_, contents_).ok());
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string Bytes() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  Result<EngineContents> ReadBack(const std::string& bytes) const {
    const std::string changed = path_ + ".changed";
    std::ofstream(changed, std::ios::binary) << bytes;
    auto contents = ReadEngineFile(changed);
    std::filesystem::remove(changed);
    return contents;
  }

  std::string path_;
  EngineContents contents_;
};

TEST_F(EngineFileTest, ReadsBackWhatWasWritten) {
  const auto read = ReadEngineFile(path_);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_TRUE(LooksLikeEngineFile(path_));
  EXPECT_EQ(read->metadata, contents_.metadata);
  EXPECT_EQ(read->module.graphs.at("random"), contents_.module.graphs.at("random"));
  ASSERT_EQ(read->module.weights.all().size(), contents_.module.weights.all().size());
  for (const auto& [name, weight] : contents_.module.weights.all()) {
    const Weight* other = read->module.weights.Find(name);
    ASSERT_NE(other, nullptr) << name;
    EXPECT_EQ(other->view.shape, weight.view.shape);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(other->view.data) % kBufferAlignment, 0U);
    EXPECT_EQ(std::memcmp(other->view.data, weight.view.data, weight.bytes()), 0) << name;
  }
}

TEST_F(EngineFileTest, EveryTruncationIsRefused) {
  const std::string bytes = Bytes();
  for (size_t size = 0; size < bytes.size(); size += size < 200 ? 1 : 97) {
    EXPECT_FALSE(ReadBack(bytes.substr(0, size)).ok()) << size << " of " << bytes.size();
  }
}

TEST_F(EngineFileTest, AChangedByteIsFoundOrHarmless) {
  const std::string bytes = Bytes();
  int refused = 0, tried = 0;
  for (size_t at = 0; at < bytes.size(); at += 13) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0x5a);
    ++tried;
    const auto read = ReadBack(changed);
    if (!read.ok()) {
      ++refused;
      continue;
    }
    // Only padding may change unseen.
    EXPECT_EQ(read->module.graphs.at("random"), contents_.module.graphs.at("random"));
    for (const auto& [name, weight] : contents_.module.weights.all()) {
      ASSERT_EQ(std::memcmp(read->module.weights.Find(name)->view.data, weight.view.data, weight.bytes()), 0) << name;
    }
  }
  EXPECT_GT(refused, tried / 2);
}

TEST_F(EngineFileTest, SaysWhatIsWrong) {
  std::string bytes = Bytes();
  bytes[8] = 9;
  EXPECT_NE(ReadBack(bytes).status().message().find("engine format 9"), std::string::npos);
  EXPECT_NE(ReadBack(std::string(500, 'x')).status().message().find("not an engine file"), std::string::npos);
  EXPECT_NE(ReadEngineFile(path_ + ".none").status().message().find("No such file"), std::string::npos);
  EXPECT_FALSE(WriteEngineFile("/nonexistent/folder/model.ting", contents_).ok());
}

}  // namespace
}  // namespace ting
