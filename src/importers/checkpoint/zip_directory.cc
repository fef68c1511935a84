// src/importers/checkpoint/zip_directory.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/zip_directory.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "importers/checkpoint/printable.h"

namespace ting {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kCentralHeader = 0x02014b50;
constexpr uint32_t kEndOfDirectory = 0x06054b50;
constexpr uint32_t kEndOfDirectory64 = 0x06064b50;
constexpr uint32_t kLocator64 = 0x07064b50;
constexpr size_t kEndOfDirectorySize = 22;
constexpr size_t kLocator64Size = 20;
constexpr size_t kCentralHeaderSize = 46;
constexpr size_t kLocalHeaderSize = 30;
constexpr uint32_t kIn64 = 0xffffffff;  // "the value is in the zip64 field"

using Bytes = std::span<const std::byte>;

// Little-endian integer at `at`, which the caller has checked to lie inside.
template <typename T>
T Get(Bytes bytes, size_t at) {
  T value;  // zip is little-endian, and so is every machine this library runs on
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

bool Inside(uint64_t offset, uint64_t size, uint64_t limit) { return offset <= limit && size <= limit - offset; }

struct DirectoryRange {
  uint64_t offset = 0, size = 0, count = 0;
};

// The end record lies at most 64 KiB (its comment) before the end.
std::optional<size_t> FindEndOfDirectory(Bytes file) {
  if (file.size() < kEndOfDirectorySize) return std::nullopt;
  const size_t last = file.size() - kEndOfDirectorySize;
  const size_t first = last > 0xffff ? last - 0xffff : 0;
  for (size_t at = last + 1; at-- > first;) {
    if (Get<uint32_t>(file, at) != kEndOfDirectory) continue;
    if (Get<uint16_t>(file, at + 20) == last - at) return at;
  }
  return std::nullopt;
}

Result<DirectoryRange> ReadEnd64(Bytes file, size_t end) {
  const size_t locator = end - kLocator64Size;
  const auto at = Get<uint64_t>(file, locator + 8);
  constexpr size_t kSize = 56;
  if (!Inside(at, kSize, locator) || Get<uint32_t>(file, at) != kEndOfDirectory64) {
    return DataLoss("the zip64 end record is not at byte {}, where the locator says; the file is damaged", at);
  }
  return DirectoryRange{Get<uint64_t>(file, at + 48), Get<uint64_t>(file, at + 40), Get<uint64_t>(file, at + 32)};
}

Result<DirectoryRange> FindDirectory(Bytes file) {
  const auto end = FindEndOfDirectory(file);
  if (!end) return DataLoss("no zip end record in {} bytes: the file is truncated, or not a zip", file.size());
  DirectoryRange range{Get<uint32_t>(file, *end + 16), Get<uint32_t>(file, *end + 12), Get<uint16_t>(file, *end + 10)};
  if (*end >= kLocator64Size && Get<uint32_t>(file, *end - kLocator64Size) == kLocator64) {
    TING_ASSIGN_OR_RETURN(range, ReadEnd64(file, *end));
  } else if (Get<uint16_t>(file, *end + 4) != 0 || Get<uint16_t>(file, *end + 6) != 0) {
    return Unimplemented("the zip is spread over several volumes; join them first");
  }
  if (!Inside(range.offset, range.size, *end) || range.count > range.size / kCentralHeaderSize) {
    return DataLoss("the zip directory ({} entries, {} bytes at {}) does not fit in the {} bytes before its end record",
                    range.count, range.size, range.offset, *end);
  }
  return range;
}

struct Located {
  uint64_t header = 0, size = 0, packed_size = 0;
};

// Replaces the sizes and the offset that are in the zip64 field, which holds only those, in this order.
Status ApplyZip64(Bytes extra, Located* located) {
  for (size_t at = 0; at + 4 <= extra.size();) {
    const auto id = Get<uint16_t>(extra, at);
    const size_t size = Get<uint16_t>(extra, at + 2);
    at += 4;
    if (size > extra.size() - at) return DataLoss("an extra field leaves its header");
    if (id == 1) {
      size_t field = at;
      for (uint64_t* value : {&located->size, &located->packed_size, &located->header}) {
        if (*value != kIn64) continue;
        if (field + 8 > at + size) return DataLoss("its zip64 field is too short");
        *value = Get<uint64_t>(extra, field);
        field += 8;
      }
      return {};
    }
    at += size;
  }
  return {};  // without a zip64 field 0xffffffff is a value like another; the bounds check judges it
}

// The bytes of the entry whose local header is at located.header.
Result<Bytes> Locate(Bytes file, const Located& located, uint64_t directory_offset) {
  if (located.size != located.packed_size) {
    return DataLoss("stored, yet {} bytes became {}", located.size, located.packed_size);
  }
  if (!Inside(located.header, kLocalHeaderSize, directory_offset) ||
      Get<uint32_t>(file, located.header) != kLocalHeader) {
    return DataLoss("no local header at byte {}", located.header);
  }
  const uint64_t data = located.header + kLocalHeaderSize + Get<uint16_t>(file, located.header + 26) +
                        Get<uint16_t>(file, located.header + 28);
  if (!Inside(data, located.size, directory_offset)) {
    return DataLoss("{} bytes at {} leave the file's {} bytes of entries", located.size, data, directory_offset);
  }
  return file.subspan(data, located.size);
}

// One central header at *at; moves *at behind it.
Result<ZipEntry> ReadEntry(Bytes file, const DirectoryRange& range, uint64_t* at) {
  const uint64_t end = range.offset + range.size;
  if (!Inside(*at, kCentralHeaderSize, end) || Get<uint32_t>(file, *at) != kCentralHeader) {
    return DataLoss("no zip directory entry at byte {}; the file is damaged", *at);
  }
  const uint64_t head = *at;
  const size_t name_size = Get<uint16_t>(file, head + 28), extra_size = Get<uint16_t>(file, head + 30);
  const size_t comment_size = Get<uint16_t>(file, head + 32);
  const uint64_t name_at = head + kCentralHeaderSize;
  if (!Inside(name_at, name_size + extra_size + comment_size, end)) {
    return DataLoss("the zip directory entry at byte {} leaves the directory", head);
  }
  *at = name_at + name_size + extra_size + comment_size;
  ZipEntry entry;
  entry.name.assign(reinterpret_cast<const char*>(file.data()) + name_at, name_size);
  if ((Get<uint16_t>(file, head + 8) & 1U) != 0) return Unimplemented("entry {} is encrypted", Printable(entry.name));
  if (const auto method = Get<uint16_t>(file, head + 10); method != 0) {
    return Unimplemented(
        "entry {} is compressed (method {}); torch.save stores without compression, so unzip and "
        "zip again with `zip -0`",
        Printable(entry.name), method);
  }
  Located located{Get<uint32_t>(file, head + 42), Get<uint32_t>(file, head + 24), Get<uint32_t>(file, head + 20)};
  const Status status = ApplyZip64(file.subspan(name_at + name_size, extra_size), &located);
  if (!status.ok()) return status.WithContext("entry " + Printable(entry.name));
  auto bytes = Locate(file, located, range.offset);
  if (!bytes.ok()) return bytes.status().WithContext("entry " + Printable(entry.name));
  entry.bytes = *bytes;
  return entry;
}

// Overlapping entries would let a small file claim to hold many times its size.
Status CheckDisjoint(const std::vector<ZipEntry>& entries) {
  std::vector<const ZipEntry*> order;
  for (const ZipEntry& entry : entries) {
    if (!entry.bytes.empty()) order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->bytes.data() < b->bytes.data(); });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->bytes.data() + order[i - 1]->bytes.size() > order[i]->bytes.data()) {
      return DataLoss("entries {} and {} overlap", Printable(order[i - 1]->name), Printable(order[i]->name));
    }
  }
  return {};
}

}  // namespace

Result<ZipDirectory> ZipDirectory::Parse(std::span<const std::byte> file) {
  TING_ASSIGN_OR_RETURN(const DirectoryRange range, FindDirectory(file));
  ZipDirectory directory;
  directory.entries_.reserve(range.count);
  uint64_t at = range.offset;
  for (uint64_t i = 0; i < range.count; ++i) {
    TING_ASSIGN_OR_RETURN(ZipEntry entry, ReadEntry(file, range, &at));
    directory.entries_.push_back(std::move(entry));
  }
  for (size_t i = 0; i < directory.entries_.size(); ++i) {
    if (!directory.index_.emplace(directory.entries_[i].name, i).second) {
      return DataLoss("the zip has two entries named {}", Printable(directory.entries_[i].name));
    }
  }
  TING_RETURN_IF_ERROR(CheckDisjoint(directory.entries_));
  return directory;
}

const ZipEntry* ZipDirectory::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

}  // namespace ting
