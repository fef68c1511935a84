// src/kernels/cuda/row_gemm_f16.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/row_gemm_instances.cuh"

namespace ting::cuda {

template RowGemmKernelFunction FindRowGemmKernel<__half>(const RowGemmConfig&, RowGemmOutput, RowGemmMode);

}  // namespace ting::cuda
