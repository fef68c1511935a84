// tests/runtime/tuning_file_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/tuning_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/random_graph.h"

namespace ting {
namespace {

const TuningIdentity kIdentity{{"NVIDIA H200", "9.0", "580.159.04"}, "0123456789abcdef"};

std::vector<TuningRecord> TwoRecords() {
  return {{{"fused_ffn", "bf16", 2048, 256, "norm swish, split 8"}, 128, {{"split", 8}, {"tile_rows", 64}}, 9.25, 9.5},
          {{"row_gemm", "f16", 768, 256, "norm half"}, 1024, {{"groups", 2}, {"tile_n", 64}}, 5.4375, 5.875}};
}

class TuningFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("tuning_file_test." + std::to_string(::getpid()));
    path_ = (folder_ / "a" / "b.json").string();
    ASSERT_TRUE(WriteTuningFile(path_, kIdentity, TwoRecords()).ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Text() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // The status of reading the file with `text` in it.
  Status Read(const std::string& text) const {
    const std::string changed = (folder_ / "changed.json").string();
    std::ofstream(changed, std::ios::binary) << text;
    return ReadTuningFile(changed, kIdentity).status();
  }
  // The same with the first `from` replaced.
  Status ReadWith(const std::string& from, const std::string& to) const {
    std::string text = Text();
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return Read(text.replace(at, from.size(), to));
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(TuningFileTest, ReadsBackWhatWasWritten) {
  const auto read = ReadTuningFile(path_, kIdentity);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  const std::vector<TuningRecord> written = TwoRecords();
  ASSERT_EQ(read->size(), written.size());
  for (size_t i = 0; i < written.size(); ++i) {
    EXPECT_EQ((*read)[i].product, written[i].product);
    EXPECT_EQ((*read)[i].rows, written[i].rows);
    EXPECT_EQ((*read)[i].config, written[i].config);
    EXPECT_EQ((*read)[i].us, written[i].us);
    EXPECT_EQ((*read)[i].unrecorded_us, written[i].unrecorded_us);
  }
}

TEST_F(TuningFileTest, ReplacesAWholeFileByAWholeFile) {
  ASSERT_TRUE(WriteTuningFile(path_, kIdentity, {TwoRecords()[0]}).ok());
  EXPECT_EQ(ReadTuningFile(path_, kIdentity)->size(), 1U);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "a")) files += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(files, 1U) << "a partial file was left";
  // A folder in its place cannot be replaced: an error, and nothing is left behind.
  const std::string taken = (folder_ / "taken").string();
  std::filesystem::create_directories(taken + "/full");
  EXPECT_FALSE(WriteTuningFile(taken, kIdentity, TwoRecords()).ok());
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    EXPECT_EQ(entry.path().string().find("partial"), std::string::npos) << entry.path();
  }
  EXPECT_FALSE(WriteTuningFile(path_ + "/below-a-file/x.json", kIdentity, TwoRecords()).ok());
}

TEST_F(TuningFileTest, AMissingFileIsNotFound) {
  EXPECT_EQ(ReadTuningFile(path_ + ".none", kIdentity).status().code(), StatusCode::kNotFound);
}

TEST_F(TuningFileTest, AnotherMachinesRecordsAreRefusedByName) {
  for (const auto& [change, word] : std::vector<std::pair<TuningIdentity, std::string>>{
           {{{"NVIDIA L4", "9.0", "580.159.04"}, "0123456789abcdef"}, "device"},
           {{{"NVIDIA H200", "8.9", "580.159.04"}, "0123456789abcdef"}, "capability"},
           {{{"NVIDIA H200", "9.0", "580.159.05"}, "0123456789abcdef"}, "driver"},
           {{{"NVIDIA H200", "9.0", "580.159.04"}, "0123456789abcdee"}, "model"}}) {
    const Status status = ReadTuningFile(path_, change).status();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_NE(status.message().find("for " + word), std::string::npos) << status.message();
  }
  EXPECT_EQ(ReadWith("\"format\": 1", "\"format\": 2").code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadWith("\"program\": \"", "\"program\": \"9").code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadWith("\"NVIDIA H200\"", "[[[[]]]]").code(), StatusCode::kFailedPrecondition);
}

TEST_F(TuningFileTest, EveryTruncationIsDamage) {
  const std::string text = Text();
  const size_t end = text.find_last_of('}');
  for (size_t bytes = 0; bytes <= end; ++bytes) {
    EXPECT_EQ(Read(text.substr(0, bytes)).code(), StatusCode::kDataLoss) << bytes << " bytes";
  }
}

TEST_F(TuningFileTest, HostileValuesAreDamage) {
  EXPECT_TRUE(Read(Text()).ok());
  const std::pair<const char*, const char*> changes[] = {
      {"\"rows\": 128", "\"rows\": -1"},
      {"\"rows\": 128", "\"rows\": 1e300"},
      {"\"rows\": 128", "\"rows\": 128.5"},
      {"\"rows\": 128", "\"rows\": 18446744073709551615"},
      {"\"rows\": 128", "\"rows\": \"128\""},
      {"\"rows\": 128", "\"row\": 128"},
      {"\"N\": 2048", "\"N\": null"},
      {"\"us\": 9.25", "\"us\": -1"},
      {"\"us\": 9.25", "\"us\": 1e999"},
      {"\"us\": 9.25", "\"us\": []"},
      {"\"op\": \"fused_ffn\"", "\"op\": \"\""},
      {"\"op\": \"fused_ffn\"", "\"op\": 7"},
      {"\"split\": 8", "\"split\": 4611686018427387904"},
      {"\"split\": 8", "\"split\": true"},
      {"\"split\": 8", "\"split\": {\"split\": 8}"},
      {"\"records\": [", "\"records\": [7,"},
      {"\"records\": [", "\"records\": {\"a\": ["},
      {"{\n", "[\n"},
  };
  for (const auto& [from, to] : changes) {
    EXPECT_EQ(ReadWith(from, to).code(), StatusCode::kDataLoss) << from << " -> " << to;
  }
  EXPECT_EQ(ReadWith("\"op\": \"fused_ffn\"", "\"op\": \"" + std::string(101, 'x') + "\"").code(),
            StatusCode::kDataLoss);
  EXPECT_EQ(ReadWith("\"fused_ffn\"", "\"\xff\xfe\"").code(), StatusCode::kDataLoss) << "not UTF-8";
}

TEST_F(TuningFileTest, HostileFilesAreDamage) {
  EXPECT_EQ(Read(std::string(1 << 20, '[')).code(), StatusCode::kDataLoss);
  EXPECT_EQ(Read(std::string(1 << 20, '\0')).code(), StatusCode::kDataLoss);
  EXPECT_EQ(Read(std::string((16 << 20) + 1, ' ')).code(), StatusCode::kDataLoss);
  EXPECT_EQ(ReadTuningFile(folder_.string(), kIdentity).status().code(), StatusCode::kDataLoss) << "a folder";
  EXPECT_EQ(ReadTuningFile("/dev/zero", kIdentity).status().code(), StatusCode::kDataLoss);
  std::string options;
  for (int i = 0; i < 33; ++i) options += "\"option" + std::to_string(i) + "\": 1, ";
  EXPECT_EQ(ReadWith("\"split\": 8", options + "\"split\": 8").code(), StatusCode::kDataLoss);
}

class TuningPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"XDG_CACHE_HOME", "HOME"}) {
      const char* value = std::getenv(name);
      saved_.emplace_back(name, value != nullptr ? value : "");
      ::unsetenv(name);
    }
  }
  void TearDown() override {
    for (const auto& [name, value] : saved_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  std::vector<std::pair<std::string, std::string>> saved_;
};

TEST_F(TuningPathTest, LiesInTheUsersCache) {
  EXPECT_EQ(DefaultTuningPath(kIdentity), "");
  ::setenv("HOME", "/home/u", 1);
  EXPECT_EQ(DefaultTuningPath(kIdentity), "/home/u/.cache/ting/NVIDIA-H200-9.0-580.159.04-0123456789abcdef.json");
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_TRUE(DefaultTuningPath(kIdentity).starts_with("/home/u/.cache/"));
  ::setenv("XDG_CACHE_HOME", "/cache", 1);
  EXPECT_TRUE(DefaultTuningPath(kIdentity).starts_with("/cache/ting/NVIDIA-H200-"));
  // A device's name comes from its driver: it does not choose the folder.
  EXPECT_EQ(DefaultTuningPath({{"../../x y", "9.0", "1"}, "m"}), "/cache/ting/..-..-x-y-9.0-1-m.json");
}

TEST(ShapeChecksum, KnowsShapesNotValues) {
  const auto make = [](uint32_t seed) { return testing::RandomGraph(seed).Make(); };
  const std::string checksum = ShapeChecksum(make(3));
  EXPECT_EQ(checksum.size(), 16U);
  EXPECT_EQ(ShapeChecksum(make(3)), checksum);
  EXPECT_NE(ShapeChecksum(make(4)), checksum);
  Module other = make(3);
  ASSERT_FALSE(other.weights.all().empty());
  const auto& [name, weight] = *other.weights.all().begin();
  const Shape shape = weight.view.shape;
  std::vector<float> values(shape.num_elements(), 0.125F);
  ASSERT_TRUE(other.weights.PutF32(std::string(name), shape, values).ok());
  EXPECT_EQ(ShapeChecksum(other), checksum);
  Shape longer;
  for (int i = 0; i < shape.rank(); ++i) longer.Append(shape[i] + (i == 0 ? 1 : 0));
  values.resize(longer.num_elements());
  const std::string copy = name;
  ASSERT_TRUE(other.weights.PutF32(copy, longer, values).ok());
  EXPECT_NE(ShapeChecksum(other), checksum);
}

}  // namespace
}  // namespace ting
