// src/kernels/cuda/conv_pair_bf16.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/conv_pair_kernel.cuh"

namespace ting::cuda {

template <>
ConvPairFunction FindConvPair<__nv_bfloat16>(const ConvPairConfig& config) {
  return FindConvPairOf<__nv_bfloat16>(config);
}

}  // namespace ting::cuda
