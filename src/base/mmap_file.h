// src/base/mmap_file.h
// SPDX-License-Identifier: Apache-2.0
//
// A whole file, read-only, mapped. Shared by the views that point into it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "ting/status.h"

namespace ting {

class MmapFile {
 public:
  static Result<std::shared_ptr<MmapFile>> Open(const std::string& path);
  ~MmapFile();
  MmapFile(const MmapFile&) = delete;
  MmapFile& operator=(const MmapFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MmapFile() = default;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

// The whole of a small text file (configuration, units): refuses more than `max_bytes`.
Result<std::string> ReadTextFile(const std::string& path, size_t max_bytes = size_t{64} << 20);

}  // namespace ting
