// src/decoders/child_map.h
// SPDX-License-Identifier: Apache-2.0
//
// ChildMap: (parent node, token) -> child node, for a trie that only grows. Open addressing with linear probing in one
// array, because std::unordered_map allocates for every entry; the prefix search adds entries every frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ting {

class ChildMap {
 public:
  ChildMap() : slots_(64) {}

  void Clear() {  // keeps its memory
    slots_.assign(slots_.size(), Slot{});
    size_ = 0;
  }
  // The child of `parent` by `token`; `next` when there was none, which it then is.
  int32_t FindOrInsert(int32_t parent, int32_t token, int32_t next) {
    if (2 * (size_ + 1) > slots_.size()) Grow();
    Slot& slot = Find(Key(parent, token));
    if (slot.child >= 0) return slot.child;
    slot = {Key(parent, token), next};
    ++size_;
    return next;
  }

 private:
  struct Slot {
    uint64_t key = 0;
    int32_t child = -1;  // -1: empty
  };
  static uint64_t Key(int32_t parent, int32_t token) {
    return uint64_t{static_cast<uint32_t>(parent)} << 32 | static_cast<uint32_t>(token);
  }
  // The slot that holds `key`, or the empty one where it belongs. Fibonacci hashing; the size is a power of two.
  Slot& Find(uint64_t key) {
    const size_t mask = slots_.size() - 1;
    size_t i = (key * 0x9E3779B97F4A7C15ULL >> 32) & mask;
    while (slots_[i].child >= 0 && slots_[i].key != key) i = (i + 1) & mask;
    return slots_[i];
  }
  void Grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.child >= 0) Find(slot.key) = slot;
    }
  }

  std::vector<Slot> slots_;
  size_t size_ = 0;
};

}  // namespace ting
