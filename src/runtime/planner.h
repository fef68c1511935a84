// src/runtime/planner.h
// SPDX-License-Identifier: Apache-2.0
//
// Lays the buffers of one step into one arena. Lifetimes are known when the graph is loaded, sizes only when a
// step's rows are; so a plan is made a step (tens of buffers, microseconds) and the arena only ever grows: after
// the largest step nothing is allocated.
#pragma once

#include <cstddef>
#include <vector>

namespace ting {

struct BufferRequest {
  size_t bytes = 0;
  int first_node = 0;  // first and last node that use it, inclusive
  int last_node = 0;
};

// Offsets (64-byte aligned) such that buffers whose lifetimes overlap do not; returns the bytes needed in all.
// Largest first, each at the lowest place that is free during its life: within a few percent of the best on
// chains such as these.
size_t PlanBuffers(const std::vector<BufferRequest>& requests, std::vector<size_t>* offsets);

}  // namespace ting
