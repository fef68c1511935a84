// tests/importers/zip_directory_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/zip_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/importers/crafted_checkpoint.h"

namespace ting {
namespace {

using testing::AsBytes;
using ::testing::HasSubstr;
using testing::LittleEndian;
using testing::WriteZip;

const testing::ZipContents kContents{{"a/data.pkl", "hello"}, {"a/empty", ""}, {"a/data/0", std::string("\0\1\2", 3)}};

std::string Text(const ZipEntry& entry) {
  return {reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size()};
}

void ExpectContents(const std::string& file) {
  const auto zip = ZipDirectory::Parse(AsBytes(file));
  ASSERT_TRUE(zip.ok()) << zip.status().ToString();
  ASSERT_EQ(zip->entries().size(), kContents.size());
  for (const auto& [name, bytes] : kContents) {
    ASSERT_NE(zip->Find(name), nullptr) << name;
    EXPECT_EQ(Text(*zip->Find(name)), bytes);
  }
  EXPECT_EQ(zip->Find("a/data"), nullptr);
}

std::string Refusal(const std::string& file) {
  const auto zip = ZipDirectory::Parse(AsBytes(file));
  return zip.ok() ? "accepted" : zip.status().message();
}

TEST(ZipDirectory, ReadsEntries) { ExpectContents(WriteZip(kContents)); }
TEST(ZipDirectory, ReadsZip64) { ExpectContents(WriteZip(kContents, {.zip64 = true})); }
TEST(ZipDirectory, FindsEndBeforeComment) {
  ExpectContents(WriteZip(kContents, {.comment = std::string(65535, 'c')}));
  ExpectContents(WriteZip(kContents, {.comment = "PK\x05\x06 is not the end"}));
}
TEST(ZipDirectory, ReadsEmptyZip) {
  const std::string file = WriteZip({});
  const auto zip = ZipDirectory::Parse(AsBytes(file));
  ASSERT_TRUE(zip.ok());
  EXPECT_TRUE(zip->entries().empty());
}

TEST(ZipDirectory, StaysValidWhenMoved) {
  const std::string file = WriteZip(kContents);
  auto parsed = ZipDirectory::Parse(AsBytes(file));
  const ZipDirectory moved = std::move(parsed).value();
  EXPECT_NE(moved.Find("a/data/0"), nullptr);
}

TEST(ZipDirectory, RefusesWhatItCannotMap) {
  EXPECT_THAT(Refusal(WriteZip(kContents, {.method = 8})), HasSubstr("a/data.pkl is compressed (method 8)"));
  EXPECT_THAT(Refusal(WriteZip(kContents, {.flags = 1})), HasSubstr("a/data.pkl is encrypted"));
  EXPECT_THAT(Refusal(WriteZip({{"x", "1"}, {"x", "2"}})), HasSubstr("two entries named x"));
  EXPECT_THAT(Refusal("not a zip at all, but long enough to hold an end record"), HasSubstr("no zip end record"));
  EXPECT_THAT(Refusal(""), HasSubstr("no zip end record in 0 bytes"));
}

TEST(ZipDirectory, EscapesNamesInMessages) {
  EXPECT_THAT(Refusal(WriteZip({{"\x1b[2J", "1"}, {"\x1b[2J", "2"}})), HasSubstr("named \\x1b[2J"));
}

// Two directory entries that point at the same bytes.
TEST(ZipDirectory, RefusesOverlap) {
  std::string file = WriteZip({{"x", "12345678"}, {"y", "12345678"}});
  const size_t second = file.rfind("PK\x01\x02");
  file.replace(second + 42, 4, LittleEndian(0, 4));
  EXPECT_THAT(Refusal(file), HasSubstr("overlap"));
}

TEST(ZipDirectory, RefusesSizesAndOffsetsOutside) {
  const std::string file = WriteZip(kContents);
  const size_t first = file.find("PK\x01\x02");
  for (const uint64_t value : {uint64_t{0x7fffffff}, uint64_t{0xfffffffe}, uint64_t{0xffffffff}, uint64_t{1000}}) {
    std::string wrong = file;  // both sizes
    wrong.replace(first + 20, 8, LittleEndian(value, 4) + LittleEndian(value, 4));
    EXPECT_THAT(Refusal(wrong), HasSubstr("a/data.pkl")) << value;
    wrong = file;  // offset of the local header
    wrong.replace(first + 42, 4, LittleEndian(value, 4));
    EXPECT_THAT(Refusal(wrong), HasSubstr("no local header")) << value;
  }
  std::string wrong = file;  // number of entries
  wrong.replace(file.rfind("PK\x05\x06") + 8, 4, "\xff\xff\xff\xff");
  EXPECT_THAT(Refusal(wrong), HasSubstr("does not fit"));
}

TEST(ZipDirectory, RefusesZip64FieldsOutside) {
  const std::string file = WriteZip(kContents, {.zip64 = true});
  const size_t end64 = file.rfind("PK\x06\x06"), locator = file.rfind("PK\x06\x07");
  for (const uint64_t value : {~uint64_t{0}, ~uint64_t{0} - 60, uint64_t{1} << 40}) {
    for (const size_t at : {end64 + 32, end64 + 40, end64 + 48, locator + 8}) {
      std::string wrong = file;
      wrong.replace(at, 8, LittleEndian(value, 8));
      EXPECT_NE(Refusal(wrong), "accepted") << at;
    }
  }
}

TEST(ZipDirectory, RefusesEveryTruncation) {
  for (const bool zip64 : {false, true}) {
    const std::string file = WriteZip(kContents, {.zip64 = zip64});
    for (size_t size = 0; size < file.size(); ++size) EXPECT_NE(Refusal(file.substr(0, size)), "accepted") << size;
  }
}

// Random damage never reads outside (run under ASan) and never yields an entry outside of the file.
TEST(ZipDirectory, SurvivesRandomDamage) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string file = WriteZip(kContents, {.zip64 = round % 2 == 0});
    for (int i = 0; i < 3; ++i) file[random() % file.size()] = static_cast<char>(random());
    const std::vector<std::byte> exact(AsBytes(file).begin(), AsBytes(file).end());
    const auto zip = ZipDirectory::Parse(exact);
    if (!zip.ok()) continue;
    for (const ZipEntry& entry : zip->entries()) {
      ASSERT_GE(entry.bytes.data(), exact.data());
      ASSERT_LE(entry.bytes.data() + entry.bytes.size(), exact.data() + exact.size());
    }
  }
}

}  // namespace
}  // namespace ting
