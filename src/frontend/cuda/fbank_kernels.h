// src/frontend/cuda/fbank_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// Launches of the filter bank: half a warp a frame. Asynchronous, no allocation, safe under capture.
#pragma once

#include <cuda_runtime_api.h>

#include "frontend/cuda/fbank_core.h"

namespace ting::cuda_fbank {

struct FbankBatch {
  const int64_t* sample_offsets = nullptr;  // [B + 1]
  const int32_t* frame_offsets = nullptr;   // [B + 1]
  int32_t num_sequences = 0;
  int32_t max_frames = 0;
};

cudaError_t LaunchFbank(const DeviceTables& tables, const int16_t* samples, const FbankBatch& batch, float* features,
                        cudaStream_t stream);
cudaError_t LaunchFbank(const DeviceTables& tables, const float* samples, const FbankBatch& batch, float* features,
                        cudaStream_t stream);

}  // namespace ting::cuda_fbank
