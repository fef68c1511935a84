// src/kernels/cuda/fused_head_f16.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/fused_head_kernel.cuh"

namespace ting::cuda::head {

template Kernel FindKernel<__half>(int64_t K, int row_groups, int64_t k);

}  // namespace ting::cuda::head
