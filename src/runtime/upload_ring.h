// src/runtime/upload_ring.h
// SPDX-License-Identifier: Apache-2.0
//
// UploadRing: host memory for copies to a device, in two buffers that take turns: the host fills one while the copy out
// of the other may still be waiting behind the step before. Called a step at a time, it never stalls a busy device: a
// buffer is waited for only when the step after its own has been queued, too.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "runtime/device.h"

namespace ting {

class UploadRing {
 public:
  explicit UploadRing(Device& device) : device_(device) {}

  // A buffer of at least `bytes`, to be filled; waits until what was sent from it last has arrived.
  Result<std::byte*> Begin(size_t bytes);
  // Queues the copy of its first `bytes` to `target`, and turns to the other one.
  Status Send(void* target, size_t bytes, Stream& stream);

 private:
  struct Buffer {
    std::unique_ptr<DeviceBuffer> memory;
    std::unique_ptr<Event> sent;
  };
  Status Grow(size_t bytes);

  Device& device_;
  std::array<Buffer, 2> buffers_;
  size_t turn_ = 0;
};

}  // namespace ting
