// src/importers/checkpoint/zip_directory.h
// SPDX-License-Identifier: Apache-2.0
//
// The central directory of a zip file in memory: where each entry's bytes lie, without copying them.
// Accepts stored entries (torch.save never compresses, so that weights can be mapped), zip64, data descriptors
// (sizes come from the central directory). Refuses compressed and encrypted entries, spanned archives, two entries
// of one name, entries that overlap, and every offset or size that leaves the file. Bytes trusted: none; CRCs are
// not checked, as that would read the whole file where mapping it reads what is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ting/status.h"

namespace ting {

struct ZipEntry {
  std::string name;
  std::span<const std::byte> bytes;  // points into the file given to Parse
};

class ZipDirectory {
 public:
  ZipDirectory() = default;
  ZipDirectory(ZipDirectory&&) = default;  // not copyable: the index points into the entries
  ZipDirectory& operator=(ZipDirectory&&) = default;

  // Time and memory are linear in the size of the central directory. `file` must outlive the result.
  static Result<ZipDirectory> Parse(std::span<const std::byte> file);

  const std::vector<ZipEntry>& entries() const { return entries_; }  // in the order of the central directory
  const ZipEntry* Find(std::string_view name) const;                 // null: no such entry

 private:
  std::vector<ZipEntry> entries_;
  std::unordered_map<std::string_view, size_t> index_;  // keys point into entries_, which no longer changes
};

}  // namespace ting
