// src/kernels/cuda/cuda_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// The CUDA backend's implementations, best first: fused kernels for Hopper where they take the node, then kernels for
// every width and type around cuBLASLt's products. Descs carry a CudaBackend, contexts a CudaStream and device_rows.
#pragma once

#include <span>

#include "kernels/kernel.h"

namespace ting {

std::span<const KernelEntry> CudaKernels();

}  // namespace ting
