// src/runtime/cuda/capture_notes.h
// SPDX-License-Identifier: Apache-2.0
//
// CaptureNotes: how many kernels, copies and fills each node of a step queues while the step is being recorded. Their
// order is what tells a trace whose they are (trace_log.h).
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "runtime/trace_log.h"
#include "ting/status.h"

namespace ting {

class CaptureNotes {
 public:
  explicit CaptureNotes(cudaStream_t stream) : stream_(stream) {}
  // All that was captured since the last call is `node`'s.
  void EndNode(size_t node);
  // Null where the notes would not hold: something could not be counted.
  std::shared_ptr<const RecordedNodes> Take();

 private:
  Status Count(size_t* operations) const;

  cudaStream_t stream_;
  RecordedNodes nodes_;
  bool complete_ = true;
};

}  // namespace ting
