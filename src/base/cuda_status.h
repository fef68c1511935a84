// src/base/cuda_status.h
// SPDX-License-Identifier: Apache-2.0
//
// A CUDA call's error as a Status. Includes no CUDA header: base needs none, and who calls CUDA has included it.
#pragma once

#include "base/status_macros.h"

#define TING_RETURN_IF_CUDA_ERROR(expr)                                                                           \
  do {                                                                                                            \
    if (const cudaError_t ting_cuda_error = (expr); ting_cuda_error != cudaSuccess) {                             \
      return ::ting::Status(ting_cuda_error == cudaErrorMemoryAllocation ? ::ting::StatusCode::kResourceExhausted \
                                                                         : ::ting::StatusCode::kUnavailable,      \
                            ::fmt::format("CUDA: {} ({})", cudaGetErrorString(ting_cuda_error), #expr));          \
    }                                                                                                             \
  } while (false)
