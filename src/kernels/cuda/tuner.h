// src/kernels/cuda/tuner.h
// SPDX-License-Identifier: Apache-2.0
//
// Measures every configuration of every product that the backend's kernels named, for each number of rows, as a step
// runs it: CUDA events around a graph of launches that read weights of their own, which are not in the second-level
// cache when their turn comes, while rows are. Other products of the model run between the launches: a kernel that is
// repeated finds its instructions in the cache, and its next launch starts on the multiprocessors that it leaves free.
#pragma once

#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/tuning.h"
#include "ting/status.h"

namespace ting::cuda {

// How often a candidate runs. Every one is looked at, and the fastest few once more beside the kernel's own choice: the
// least of many scattered times flatters.
struct TuningEffort {
  struct Look {
    int launches;    // of the product in a graph
    size_t replays;  // after one that loads the kernels; the median counts
  };
  Look first{8, 3}, second{24, 15};
  size_t finalists = 4;
};

// A record for each product and number of rows. Its configuration is empty where none beats the kernel's own choice by
// more than measurements scatter. The backend's table is cleared first, and holds the others in the end.
Result<std::vector<TuningRecord>> TuneProducts(CudaBackend& backend, const TuningRequest& request,
                                               const TuningEffort& effort = {});

}  // namespace ting::cuda
