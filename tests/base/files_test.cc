// tests/base/files_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Mapped files and aligned buffers.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "base/aligned_buffer.h"
#include "base/mmap_file.h"

namespace ting {
namespace {

using ::testing::HasSubstr;

class FilesTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& content) {
    const std::string path = ::testing::TempDir() + "ting_files_test_" + std::to_string(::getpid());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
};

TEST_F(FilesTest, TextAndEmptyFiles) {
  const std::string path = Write(std::string("a\0b\n", 4));
  EXPECT_EQ(*ReadTextFile(path), std::string("a\0b\n", 4));
  EXPECT_THAT(ReadTextFile(path, 3).status().message(), HasSubstr("4 bytes, more than the 3"));
  Write("");
  EXPECT_EQ(*ReadTextFile(path), "");
  std::filesystem::remove(path);
}

TEST_F(FilesTest, WhatIsNoFileIsRefusedByName) {
  EXPECT_EQ(MmapFile::Open("/no/such/file").status().code(), StatusCode::kNotFound);
  EXPECT_THAT(MmapFile::Open("/no/such/file").status().message(), HasSubstr("/no/such/file: No such file"));
  EXPECT_THAT(MmapFile::Open(::testing::TempDir()).status().message(), HasSubstr("not a regular file"));
  EXPECT_THAT(MmapFile::Open("/dev/zero").status().message(), HasSubstr("not a regular file"));
}

TEST_F(FilesTest, TheMappingOutlivesTheName) {
  const std::string path = Write("still here");
  const auto file = MmapFile::Open(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>((*file)->bytes().data()), (*file)->bytes().size()), "still here");
}

TEST(AlignedBuffer, IsAlignedAndSaysWhenMemoryIsOut) {
  for (const size_t bytes : {0U, 1U, 63U, 64U, 65U, 100000U}) {
    auto buffer = AlignedBuffer::Allocate(bytes);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % kBufferAlignment, 0U);
    std::memset(buffer->data(), 1, bytes);
  }
  const auto huge = AlignedBuffer::Allocate(size_t{1} << 60);
  EXPECT_EQ(huge.status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace ting
