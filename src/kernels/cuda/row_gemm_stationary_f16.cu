// src/kernels/cuda/row_gemm_stationary_f16.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/row_gemm_stationary.cuh"

namespace ting::cuda::stationary {

template RowGemmKernelFunction FindKernel<__half>(RowGemmOutput);

}  // namespace ting::cuda::stationary
