// src/base/mmap_file.cc
// SPDX-License-Identifier: Apache-2.0
#include "base/mmap_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status_macros.h"

namespace ting {
namespace {

// Opens a regular file and tells its size; the caller closes the descriptor.
Result<std::pair<int, size_t>> OpenRegular(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const auto code = errno == ENOENT ? StatusCode::kNotFound : StatusCode::kInvalidArgument;
    return Status(code, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return InvalidArgument("{}: not a regular file", path);
  }
  return std::pair{fd, static_cast<size_t>(info.st_size)};
}

}  // namespace

Result<std::shared_ptr<MmapFile>> MmapFile::Open(const std::string& path) {
  TING_ASSIGN_OR_RETURN(const auto opened, OpenRegular(path));
  const auto [fd, size] = opened;
  std::shared_ptr<MmapFile> file(new MmapFile);
  file->path_ = path;
  file->size_ = size;
  if (size > 0) {
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      return ResourceExhausted("{}: mapping {} bytes failed: {}", path, size, std::strerror(error));
    }
    file->data_ = static_cast<const std::byte*>(data);
  }
  ::close(fd);
  return file;
}

MmapFile::~MmapFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<std::string> ReadTextFile(const std::string& path, size_t max_bytes) {
  TING_ASSIGN_OR_RETURN(auto file, MmapFile::Open(path));
  const auto bytes = file->bytes();
  if (bytes.size() > max_bytes) {
    return InvalidArgument("{}: {} bytes, more than the {} that such a file may have", path, bytes.size(), max_bytes);
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace ting
