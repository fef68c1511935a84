// src/kernels/cuda/conv_pair_second.cu
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/conv_pair_second.cuh"

namespace ting::cuda {
namespace {

template <typename T, size_t kIndex = 0>
ConvSecondFunction FindOf(const ConvPairConfig& config) {
  if constexpr (kIndex == sizeof kConvPairConfigs / sizeof kConvPairConfigs[0]) {
    return nullptr;
  } else {
    constexpr ConvPairConfig c = kConvPairConfigs[kIndex];
    if (config.groups == c.groups && config.tile_n == c.tile_n && config.cluster_rows == c.cluster_rows &&
        config.cluster_columns == c.cluster_columns) {
      return ConvSecondKernel<T, ConvSecondShape<c.groups, c.tile_n, c.cluster_rows, c.cluster_columns>>;
    }
    return FindOf<T, kIndex + 1>(config);
  }
}

}  // namespace

ConvSecondFunction FindConvSecond(ConvStorage storage, const ConvPairConfig& config) {
  return storage == ConvStorage::kF16 ? FindOf<__half>(config) : FindOf<__nv_bfloat16>(config);
}

}  // namespace ting::cuda
