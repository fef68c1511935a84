// src/kernels/cuda/conv_pair_parameters.h
// SPDX-License-Identifier: Apache-2.0
//
// Between conv_pair.cc (checks, choice, launch) and the kernel of ConvPair (conv_pair_kernel.cuh).
//
// Positions: sequence b owns rows [out_offsets[b] + b, out_offsets[b + 1] + b + 1), one more than it has output rows,
// and each row F_out positions. The row more belongs to no output; it gives the second convolution's last time tap its
// place, so that a tap of any position is found at one distance from it.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/conv_kernels.h"

namespace ting::cuda {

struct ConvPairParameters {
  CUtensorMap w;  // of the second stage, in boxes of 32 columns
  const float* features;
  const float* mean;
  const float* istd;
  const int32_t* in_offsets;
  const int32_t* out_offsets;
  const void* first_weight;  // [C, 9]
  const float* first_bias;
  const float* second_bias;
  void* y;
  int B, C, F_in, F_out;
  int stages;
};

using ConvPairFunction = void (*)(ConvPairParameters);

template <typename T>
ConvPairFunction FindConvPair(const ConvPairConfig& config);  // null: there is none
template <>
ConvPairFunction FindConvPair<__half>(const ConvPairConfig& config);
template <>
ConvPairFunction FindConvPair<__nv_bfloat16>(const ConvPairConfig& config);

inline constexpr int kConvPairThreads = 512;
inline constexpr int kConvChannels = 32;  // of the first stage, that the second one sums at a time
inline constexpr int kConvClusterBlocks = 2;
inline constexpr int kConvTableRows = 40;  // rows that a tile's operands come from, at most
inline constexpr int kConvTables = 4;

// What follows from a configuration: warpgroups that multiply (each with `tiles` tiles of 64 channels) and that make
// the first stage's values, how many times 64 units of work the latter have (ConvProducer), taps of W in a stage.
struct ConvPairRoles {
  int consumers, tiles, producers, unit_tiles, taps;
  int staged;  // positions whose results a consumer writes at a time
};
constexpr ConvPairRoles ConvPairRolesOf(const ConvPairConfig& config) {
  if (config.channels == 64) return {1, 1, 2, 3, 3, config.positions};
  return {2, config.channels / 128, 1, 6, 1, 48};
}
// Units of work of a tile, at most: one more than positions a row of them, for the even time rows and the odd ones.
constexpr int ConvPairUnits(const ConvPairConfig& config, int F_out) {
  const int even = config.positions + F_out, odd = config.positions;
  return even + (even + F_out - 2) / F_out + 1 + odd + (odd + F_out - 2) / F_out + 1;
}

// Dynamic shared memory in the order of the kernel: W's ring; the results of the consumers; two buffers of the first
// stage's values, 4 times 8 channels of plane_rows positions each; the first stage's weights; CMVN; features; tables;
// barriers.
struct ConvPairLayout {
  int plane_rows;
  int feature_rows;  // of positions, of 4 frames each
  uint32_t stage_bytes, staging_bytes, buffer_bytes, total_bytes;
};
// Planes of a tile: the even time rows for each frequency tap, then the odd ones; a last row for what nobody reads. The
// even ones are used again, F_out positions further on, by the last time tap.
constexpr ConvPairLayout ConvPairLayoutOf(const ConvPairConfig& config, int C, int F_in, int F_out, int stages) {
  const ConvPairRoles roles = ConvPairRolesOf(config);
  ConvPairLayout layout{};
  layout.plane_rows = 3 * (config.positions + F_out) + 3 * config.positions + 1;
  layout.feature_rows = (config.positions + 2 * F_out - 2) / F_out + 1;
  layout.stage_bytes = static_cast<uint32_t>(roles.taps * config.channels * kConvChannels * 2);
  layout.staging_bytes = static_cast<uint32_t>(roles.staged * 128);
  layout.buffer_bytes = static_cast<uint32_t>(layout.plane_rows * kConvChannels * 2);
  layout.total_bytes = 1024 + static_cast<uint32_t>(stages) * (layout.stage_bytes + 16) +
                       static_cast<uint32_t>(roles.consumers) * layout.staging_bytes + 2 * layout.buffer_bytes +
                       static_cast<uint32_t>(C * 24 + F_in * 8 + layout.feature_rows * F_in * 16) +
                       static_cast<uint32_t>(kConvTables * (kConvTableRows * 8 + config.positions * 4)) + 48;
  return layout;
}

}  // namespace ting::cuda
