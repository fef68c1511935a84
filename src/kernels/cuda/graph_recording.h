// src/kernels/cuda/graph_recording.h
// SPDX-License-Identifier: Apache-2.0
//
// CUDA graphs recorded from a stream: of the runtime's steps and of the tuner's measurements.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "ting/status.h"

namespace ting::cuda {

// What `issue` queues on `stream`, as a graph that is not yet run; the caller destroys it.
Result<cudaGraphExec_t> RecordGraph(cudaStream_t stream, const std::function<Status()>& issue);

}  // namespace ting::cuda
