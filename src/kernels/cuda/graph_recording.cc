// src/kernels/cuda/graph_recording.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/graph_recording.h"

#include "base/status_macros.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {

Result<cudaGraphExec_t> RecordGraph(cudaStream_t stream, const std::function<Status()>& issue) {
  TING_CUDA_RETURN_IF_ERROR(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const Status status = issue();
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  cudaGraphExec_t executable = nullptr;
  Status made = CudaStatus(ended, "recording a step");
  if (status.ok() && made.ok()) made = CudaStatus(cudaGraphInstantiate(&executable, graph, 0), "recording a step");
  if (graph != nullptr) cudaGraphDestroy(graph);
  // A call that is recorded may hear of a lost GPU by another name, cuBLASLt's for instance.
  if (!status.ok()) TING_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream));
  TING_RETURN_IF_ERROR(status);
  TING_RETURN_IF_ERROR(made);
  return executable;
}

}  // namespace ting::cuda
