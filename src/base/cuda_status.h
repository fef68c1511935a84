// src/base/cuda_status.h
// SPDX-License-Identifier: Apache-2.0
//
// A CUDA call's error as a Status. For code that calls CUDA only: base itself needs no toolkit.
#pragma once

#include <cuda_runtime_api.h>

#include "base/status_macros.h"

namespace ting {

// Whether a process that got this error can use the device no more: every later call repeats it. Memory that a kernel
// should not have touched is among them.
inline bool LosesGpu(cudaError_t error) {
  switch (error) {
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorMisalignedAddress:
    case cudaErrorAssert:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
      return true;
    default:
      return false;
  }
}

// The error by which the GPU was lost, or none. Another thread may have lost it, and what this one hears of that
// depends on the call: a library's own code, say. A thread that captures is not told.
inline cudaError_t GpuLoss() {
  const cudaError_t error = cudaStreamQuery(cudaStreamPerThread);
  (void)cudaGetLastError();
  return LosesGpu(error) ? error : cudaSuccess;
}

// Running out of memory and losing the device have codes of their own. The runtime forgets the error, so that a later
// look at the last one does not find it again.
inline Status CudaErrorStatus(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status();
  (void)cudaGetLastError();
  if (const cudaError_t loss = GpuLoss(); loss != cudaSuccess) error = loss;
  if (error == cudaErrorMemoryAllocation) {
    return ResourceExhausted("the GPU is out of memory ({}); use a smaller batch or raise --gpu-memory", what);
  }
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    return FailedPrecondition("no usable GPU: {}; use --device cpu", cudaGetErrorString(error));
  }
  if (LosesGpu(error)) {
    return Unavailable("the GPU is lost to this process: {} ({}); start again", cudaGetErrorString(error), what);
  }
  return Internal("CUDA: {} ({}, in {})", cudaGetErrorString(error), cudaGetErrorName(error), what);
}

}  // namespace ting

#define TING_RETURN_IF_CUDA_ERROR(expr)                                               \
  do {                                                                                \
    if (const cudaError_t ting_cuda_error = (expr); ting_cuda_error != cudaSuccess) { \
      return ::ting::CudaErrorStatus(ting_cuda_error, #expr);                         \
    }                                                                                 \
  } while (false)
