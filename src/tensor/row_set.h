// src/tensor/row_set.h
// SPDX-License-Identifier: Apache-2.0
//
// RowSet: how the packed rows of a step belong to sequences. Lengths travel, never masks or padding:
// rows of sequence b are [offsets[b], offsets[b + 1]).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ting {

class RowSet {
 public:
  RowSet() : offsets_{0} {}
  static RowSet FromLengths(std::span<const int32_t> lengths) {
    RowSet rows;
    rows.Assign(lengths);
    return rows;
  }
  void Assign(std::span<const int32_t> lengths) {  // keeps its memory
    offsets_.assign(1, 0);
    for (const int32_t length : lengths) Append(length);
  }
  void Append(int32_t length) { offsets_.push_back(offsets_.back() + length); }

  int num_sequences() const { return static_cast<int>(offsets_.size()) - 1; }
  int32_t num_rows() const { return offsets_.back(); }
  int32_t begin(int sequence) const { return offsets_[sequence]; }
  int32_t length(int sequence) const { return offsets_[sequence + 1] - offsets_[sequence]; }
  std::span<const int32_t> offsets() const { return offsets_; }  // [B + 1]

 private:
  std::vector<int32_t> offsets_;
};

}  // namespace ting
