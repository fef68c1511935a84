// src/runtime/upload_ring.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/upload_ring.h"

#include "base/status_macros.h"

namespace ting {

Result<std::byte*> UploadRing::Begin(size_t bytes) {
  Buffer& buffer = buffers_[turn_];
  if (!buffer.memory || buffer.memory->size() < bytes) TING_RETURN_IF_ERROR(Grow(bytes + bytes / 2));
  TING_RETURN_IF_ERROR(buffer.sent->Wait());
  return buffer.memory->data();
}

// Both at once, so that after the largest step nothing is allocated.
Status UploadRing::Grow(size_t bytes) {
  for (Buffer& buffer : buffers_) {
    if (!buffer.sent) {
      TING_ASSIGN_OR_RETURN(buffer.sent, device_.CreateEvent());
    }
    TING_RETURN_IF_ERROR(buffer.sent->Wait());
    buffer.memory.reset();
    TING_ASSIGN_OR_RETURN(buffer.memory, device_.AllocateHost(bytes));
  }
  return Status();
}

Status UploadRing::Send(void* target, size_t bytes, Stream& stream) {
  Buffer& buffer = buffers_[turn_];
  turn_ = (turn_ + 1) % buffers_.size();
  TING_RETURN_IF_ERROR(stream.SendToDevice(target, buffer.memory->data(), bytes));
  return buffer.sent->Record(stream);
}

}  // namespace ting
