// src/kernels/cuda/conv_pair_f16.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/conv_pair_kernel.cuh"

namespace ting::cuda {

template <>
ConvPairFunction FindConvPair<__half>(const ConvPairConfig& config) {
  return FindConvPairOf<__half>(config);
}

}  // namespace ting::cuda
