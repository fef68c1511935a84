// src/engine/load_pool.cc
// SPDX-License-Identifier: Apache-2.0
//
// A pool of the engine's own recognisers: one copy of the weights in host memory, one on each GPU.
#include <algorithm>
#include <new>
#include <thread>

#include "base/status_macros.h"
#include "engine/cpu_lanes.h"
#include "engine/u2_recognizer.h"
#include "ting/recognizer_pool.h"

namespace ting {
namespace {

// A batch that fills an H100 takes 3 ms of its time and 5 ms of a host's, for packing samples, trees of hypotheses and
// text: with eight lanes the device always has work (docs/gpu_results.md, "End to end").
constexpr int kGpuLanes = 8;
constexpr int kMaxLanes = 64;

using Lanes = std::vector<RecognizerPool::Lane>;

Status AddCpuLanes(const std::shared_ptr<const U2Model>& model, RecognizerOptions options, const PoolOptions& pool,
                   Lanes* lanes) {
  TING_RETURN_IF_ERROR(CheckThreads(options));
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  for (const int threads : ThreadsOfCpuLanes(options.num_threads > 0 ? options.num_threads : cores, pool)) {
    options.num_threads = threads;
    TING_ASSIGN_OR_RETURN(auto recognizer, U2Recognizer::Create(model, options));
    lanes->push_back({std::move(recognizer), options.device, threads});
  }
  return Status();
}

Status AddGpuLanes(const std::shared_ptr<const U2Model>& model, const RecognizerOptions& options, int count,
                   Lanes* lanes) {
  TING_ASSIGN_OR_RETURN(auto first, U2Recognizer::Create(model, options));
  const int threads = first->num_threads();
  lanes->push_back({std::move(first), options.device, threads});
  for (int i = 1; i < count; ++i) {
    TING_ASSIGN_OR_RETURN(auto recognizer, lanes->back().recognizer->Clone());
    lanes->push_back({std::move(recognizer), options.device, threads});
  }
  return Status();
}

}  // namespace

Result<std::unique_ptr<RecognizerPool>> RecognizerPool::Load(const std::string& path, const RecognizerOptions& options,
                                                             const PoolOptions& pool) {
  if (pool.lanes < 0 || pool.lanes > kMaxLanes) {
    return InvalidArgument("{} lanes; use 1 to {}, or 0 for the device's own number", pool.lanes, kMaxLanes);
  }
  try {
    TING_ASSIGN_OR_RETURN(const std::vector<std::string> devices, ExpandDevices(options.device));
    const bool gpu = devices[0].starts_with("cuda");
    TING_ASSIGN_OR_RETURN(U2Model loaded, LoadU2ModelFor(options, path));
    const auto model = std::make_shared<const U2Model>(std::move(loaded));
    RecognizerOptions one = options;
    Lanes lanes;
    for (const std::string& device : devices) {
      one.device = device;
      TING_RETURN_IF_ERROR(gpu ? AddGpuLanes(model, one, pool.lanes > 0 ? pool.lanes : kGpuLanes, &lanes)
                               : AddCpuLanes(model, one, pool, &lanes));
    }
    return std::make_unique<RecognizerPool>(std::move(lanes));
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while loading {}", path);
  }
}

}  // namespace ting
