// tests/engine/tuning_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// How records come from files to a device, here one that only pretends to be a GPU.
#include "engine/tuning.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/tuning_file.h"
#include "tests/support/paths.h"
#include "ting/tuning.h"

namespace ting {
namespace {

const HardwareName kHardware{"Pretended GPU", "9.0", "1.2.3"};

class PretendedGpu : public Device {
 public:
  const std::string& name() const override { return name_; }
  Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t) override {
    return Status(StatusCode::kUnimplemented, "it has no memory");
  }
  Result<std::unique_ptr<Stream>> CreateStream() override {
    return Status(StatusCode::kUnimplemented, "it has no streams");
  }
  std::span<const KernelEntry> kernels() const override { return {}; }
  TuningTable* tuning() override { return &table; }
  Result<HardwareName> hardware() const override { return kHardware; }

  TuningTable table;

 private:
  std::string name_ = "pretended";
};

class LoadTuningTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("load_tuning_test." + std::to_string(::getpid()));
    const char* cache = std::getenv("XDG_CACHE_HOME");
    if (cache != nullptr) cache_ = cache;
    ::setenv("XDG_CACHE_HOME", folder_.c_str(), 1);
    options_.note = [this](const std::string& note) { notes_.push_back(note); };
    identity_ = {kHardware, ShapeChecksum(model_.module)};
  }
  void TearDown() override {
    ::unsetenv("XDG_CACHE_HOME");
    if (cache_) ::setenv("XDG_CACHE_HOME", cache_->c_str(), 1);
    std::filesystem::remove_all(folder_);
  }
  size_t NumLoaded() {
    PretendedGpu device;
    notes_.clear();
    LoadTuning(model_, options_, device);
    return device.table.Records().size();
  }
  void WriteRecord(const std::string& path) const {
    const TuningRecord record{{"row_gemm", "f16", 768, 256, "half"}, 128, {{"tile_n", 64}}, 3, 4};
    ASSERT_TRUE(WriteTuningFile(path, identity_, {record}).ok());
  }

  U2Model model_;
  RecognizerOptions options_;
  TuningIdentity identity_;
  std::filesystem::path folder_;
  std::optional<std::string> cache_;
  std::vector<std::string> notes_;
};

TEST_F(LoadTuningTest, ReadsTheCacheIfThereIsOne) {
  EXPECT_EQ(NumLoaded(), 0U);
  EXPECT_TRUE(notes_.empty()) << "most machines are not tuned";
  WriteRecord(DefaultTuningPath(identity_));
  EXPECT_EQ(NumLoaded(), 1U);
  EXPECT_TRUE(notes_.empty());
  options_.use_tuning = false;
  EXPECT_EQ(NumLoaded(), 0U);
  EXPECT_TRUE(notes_.empty());
}

TEST_F(LoadTuningTest, ReadsANamedFileInstead) {
  WriteRecord(DefaultTuningPath(identity_));
  options_.tuning_file = (folder_ / "named.json").string();
  EXPECT_EQ(NumLoaded(), 0U);
  ASSERT_EQ(notes_.size(), 1U) << "a named file should be there";
  EXPECT_NE(notes_[0].find("named.json: no such file"), std::string::npos) << notes_[0];
  WriteRecord(options_.tuning_file);
  EXPECT_EQ(NumLoaded(), 1U);
}

TEST_F(LoadTuningTest, ADamagedOrForeignFileIsANote) {
  const std::string path = DefaultTuningPath(identity_);
  WriteRecord(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EXPECT_EQ(NumLoaded(), 0U);
  ASSERT_EQ(notes_.size(), 1U);
  EXPECT_NE(notes_[0].find("the tuning records are ignored"), std::string::npos) << notes_[0];
  identity_.hardware.driver = "1.2.4";
  WriteRecord(path);
  EXPECT_EQ(NumLoaded(), 0U);
  ASSERT_EQ(notes_.size(), 1U);
  EXPECT_NE(notes_[0].find("driver \"1.2.4\", not \"1.2.3\""), std::string::npos) << notes_[0];
  options_.note = nullptr;
  EXPECT_EQ(NumLoaded(), 0U);
}

TEST_F(LoadTuningTest, TheCpuHasNothingToTune) {
  const auto report = TuneModel(testing::SourcePath("models/tiny"), options_, {});
  EXPECT_EQ(report.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(report.status().message().find("--device cuda"), std::string::npos) << report.status().ToString();
}

}  // namespace
}  // namespace ting
