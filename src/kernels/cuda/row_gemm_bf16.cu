// src/kernels/cuda/row_gemm_bf16.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/row_gemm_instances.cuh"

namespace ting::cuda {

template RowGemmKernelFunction FindRowGemmKernel<__nv_bfloat16>(const RowGemmConfig&, RowGemmOutput, RowGemmMode);

}  // namespace ting::cuda
