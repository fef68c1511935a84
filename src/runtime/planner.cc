// src/runtime/planner.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/planner.h"

#include <algorithm>
#include <numeric>

#include "base/aligned_buffer.h"

namespace ting {
namespace {

bool Overlap(const BufferRequest& a, const BufferRequest& b) {
  return a.first_node <= b.last_node && b.first_node <= a.last_node;
}

}  // namespace

size_t PlanBuffers(const std::vector<BufferRequest>& requests, std::vector<size_t>* offsets) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return requests[a].bytes > requests[b].bytes; });
  offsets->assign(requests.size(), 0);
  std::vector<size_t> placed;  // by offset
  size_t total = 0;
  for (const size_t i : order) {
    const size_t bytes = AlignUp(requests[i].bytes);
    size_t at = 0;
    for (const size_t j : placed) {
      if (!Overlap(requests[i], requests[j])) continue;
      if (at + bytes <= (*offsets)[j]) break;
      at = std::max(at, (*offsets)[j] + AlignUp(requests[j].bytes));
    }
    (*offsets)[i] = at;
    total = std::max(total, at + bytes);
    const auto later = [&](size_t offset, size_t j) { return offset < (*offsets)[j]; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), at, later), i);
  }
  return total;
}

}  // namespace ting
