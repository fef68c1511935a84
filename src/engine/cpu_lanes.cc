// src/engine/cpu_lanes.cc
// SPDX-License-Identifier: Apache-2.0
#include "engine/cpu_lanes.h"

#include <algorithm>

namespace ting {
namespace {

// Unless more are asked for. A lane has activations of its own: some 8 MB for a recording of ten seconds.
constexpr int kMostDefaultLanes = 16;

}  // namespace

std::vector<int> ThreadsOfCpuLanes(int num_threads, const PoolOptions& pool) {
  const int wanted = pool.lanes > 0 ? pool.lanes : std::min(num_threads, kMostDefaultLanes);
  const auto lanes = static_cast<int>(std::clamp<size_t>(pool.max_batches, 1, wanted));
  std::vector<int> threads(lanes);
  for (int i = 0; i < lanes; ++i) threads[i] = std::max(1, num_threads / lanes + (i < num_threads % lanes ? 1 : 0));
  return threads;
}

}  // namespace ting
