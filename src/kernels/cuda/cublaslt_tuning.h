// src/kernels/cuda/cublaslt_tuning.h
// SPDX-License-Identifier: Apache-2.0
//
// cuBLASLt's products for the tuner: its algorithms are the candidates, the first of them its own choice.
#pragma once

#include "kernels/cuda/cuda_backend.h"

namespace ting::cuda {

// Nothing to tune in batch-invariant mode: another algorithm may sum in another order.
void AddLtTunable(CudaBackend& backend, const DeviceMatrix& matrix);

}  // namespace ting::cuda
