// src/kernels/carver.h
// SPDX-License-Identifier: Apache-2.0
//
// How a kernel lays out its workspace: one function that takes pieces, called without memory for WorkspaceBytes and
// with it in Run.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned_buffer.h"

namespace ting {

// Hands out pieces of the workspace, each on a cache line; with a null base it only counts.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <typename T = std::byte>
  T* Take(int64_t count) {
    std::byte* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += AlignUp(static_cast<size_t>(count) * sizeof(T));
    return reinterpret_cast<T*>(piece);
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

}  // namespace ting
