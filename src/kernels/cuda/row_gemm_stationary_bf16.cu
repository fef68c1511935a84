// src/kernels/cuda/row_gemm_stationary_bf16.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/row_gemm_stationary.cuh"

namespace ting::cuda::stationary {

template RowGemmKernelFunction FindKernel<__nv_bfloat16>(RowGemmOutput);

}  // namespace ting::cuda::stationary
