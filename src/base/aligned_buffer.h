// src/base/aligned_buffer.h
// SPDX-License-Identifier: Apache-2.0
//
// 64-byte aligned bytes on the heap, movable, not copyable. Allocation failure is a Status.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/status_macros.h"

namespace ting {

inline constexpr size_t kBufferAlignment = 64;  // a cache line, and the widest vector

inline size_t AlignUp(size_t bytes, size_t alignment = kBufferAlignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

class AlignedBuffer {
 public:
  AlignedBuffer() = default;

  static Result<AlignedBuffer> Allocate(size_t bytes) {
    AlignedBuffer buffer;
    const size_t rounded = AlignUp(bytes == 0 ? 1 : bytes);
    buffer.data_.reset(static_cast<std::byte*>(std::aligned_alloc(kBufferAlignment, rounded)));
    if (!buffer.data_) return ResourceExhausted("out of memory: {} bytes could not be allocated", bytes);
    buffer.size_ = bytes;
    return buffer;
  }

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

}  // namespace ting
