// src/runtime/cuda/capture_notes.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/cuda/capture_notes.h"

#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "kernels/cuda/launch.h"

namespace ting {

// Operations captured so far that leave an activity behind.
Status CaptureNotes::Count(size_t* operations) const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaGraph_t graph = nullptr;
  TING_CUDA_RETURN_IF_ERROR(cudaStreamGetCaptureInfo(stream_, &status, nullptr, &graph));
  if (status != cudaStreamCaptureStatusActive) return Internal("the stream records no step");
  size_t count = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGraphGetNodes(graph, nullptr, &count));
  std::vector<cudaGraphNode_t> nodes(count);
  TING_CUDA_RETURN_IF_ERROR(cudaGraphGetNodes(graph, nodes.data(), &count));
  *operations = 0;
  for (const cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type{};
    TING_CUDA_RETURN_IF_ERROR(cudaGraphNodeGetType(node, &type));
    *operations +=
        type == cudaGraphNodeTypeKernel || type == cudaGraphNodeTypeMemcpy || type == cudaGraphNodeTypeMemset;
  }
  return Status();
}

void CaptureNotes::EndNode(size_t node) {
  size_t operations = nodes_.size();
  complete_ = complete_ && Count(&operations).ok();
  nodes_.resize(std::max(operations, nodes_.size()), static_cast<uint16_t>(node));
}

std::shared_ptr<const RecordedNodes> CaptureNotes::Take() {
  return complete_ ? std::make_shared<const RecordedNodes>(std::move(nodes_)) : nullptr;
}

}  // namespace ting
