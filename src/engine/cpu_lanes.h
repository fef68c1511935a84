// src/engine/cpu_lanes.h
// SPDX-License-Identifier: Apache-2.0
//
// How the lanes of a pool share the CPU's threads. Lanes of one thread each work on recordings of their own and never
// wait for one another; threads that share the rows of a batch meet a hundred times a step, each time at the slowest.
// So there are as many lanes as threads where there are recordings for them, and a single one gets all threads.
#pragma once

#include <vector>

#include "ting/recognizer_pool.h"

namespace ting {

// Threads of each lane: one at least, and together `num_threads` unless there are more lanes than that.
// `num_threads` is at least 1; `pool.lanes` is at least 0.
std::vector<int> ThreadsOfCpuLanes(int num_threads, const PoolOptions& pool);

}  // namespace ting
