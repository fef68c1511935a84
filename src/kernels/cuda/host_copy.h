// src/kernels/cuda/host_copy.h
// SPDX-License-Identifier: Apache-2.0
//
// A step's few KB from pinned host memory, read by a kernel. The copy engine is another queue: kernels wait 4 to 8 us
// for it whenever more than about a KB goes that way (10 KB, H200, CUPTI times); a kernel that reads 10 KB over the bus
// takes 2.6 (H100).
//
// Shapes     bytes at `pinned`, `device`: both 16-byte aligned, `bytes` a multiple of 16
// Execution  asynchronous on stream; `pinned` must stay as it is until the stream has passed
// Tests      tests/kernels/cuda/host_copy_test.cc
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "ting/status.h"

namespace ting::cuda {

// Beyond this the copy engine's rate counts more than its wait.
inline constexpr size_t kMostHostCopyBytes = 128 << 10;

Status CopyFromPinned(void* device, const void* pinned, size_t bytes, cudaStream_t stream);

}  // namespace ting::cuda
