// src/runtime/step_stage.h
// SPDX-License-Identifier: Apache-2.0
//
// StepStage: the host bytes that a step sends to its device — inputs that lie on the host, offsets of row sets, row
// counts — laid out one after the other, so that one copy brings them all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "base/aligned_buffer.h"

namespace ting {

class StepStage {
 public:
  void Clear() { pieces_.clear(), bytes_ = 0; }
  // `bytes` at `source`, then up to `padded` bytes: zeros, or (`repeat_last`) the last four bytes again and again.
  // Returns the place. `source` must stay until Fill.
  size_t Add(const void* source, size_t bytes, size_t padded, bool repeat_last = false) {
    pieces_.push_back({source, bytes, std::max(bytes, padded), bytes_, repeat_last});
    bytes_ += AlignUp(std::max(bytes, padded));
    return pieces_.back().offset;
  }
  size_t bytes() const { return bytes_; }
  void Fill(std::byte* out) const {
    for (const Piece& piece : pieces_) {
      std::byte* at = out + piece.offset;
      if (piece.bytes > 0) std::memcpy(at, piece.source, piece.bytes);
      if (!piece.repeat_last) {
        std::memset(at + piece.bytes, 0, piece.padded - piece.bytes);
        continue;
      }
      for (size_t i = piece.bytes; i < piece.padded; i += 4) std::memcpy(at + i, at + piece.bytes - 4, 4);
    }
  }

 private:
  struct Piece {
    const void* source;
    size_t bytes, padded, offset;
    bool repeat_last;
  };
  std::vector<Piece> pieces_;
  size_t bytes_ = 0;
};

}  // namespace ting
