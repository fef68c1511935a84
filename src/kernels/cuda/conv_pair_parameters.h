// src/kernels/cuda/conv_pair_parameters.h
// SPDX-License-Identifier: Apache-2.0
//
// Between conv_pair.cc (checks, choice, launch) and the two kernels of ConvPair.
//
// What the first stage hands to the second: its even time rows in one plane, its odd ones in another, [rows, F1p, C]
// with F1p = 2 * half, half = F_out + 1: one column or none is padding. Sequence b owns rows [out_offsets[b] + b,
// out_offsets[b + 1] + b + 1) of both planes, one more than it has output rows. So, with positions r = row * half + f,
// the operand of tap (kt, kf) at every output position is row
//   r + (kt / 2) * half + kf / 2   of plane kt % 2 as a matrix [rows * half, 2 * C], columns (kf % 2) * C + channel:
// one plain matrix for all sequences, read by the copy engine. Positions with f = F_out, and those of a sequence's last
// row, belong to no output; what they read may be anything.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/conv_kernels.h"

namespace ting::cuda {

struct ConvFirstParameters {
  const float* features;
  const float* mean;
  const float* istd;
  const int32_t* in_offsets;
  const int32_t* out_offsets;  // of the second stage
  const void* weight;          // [C, 9]
  const float* bias;
  void* planes;
  int64_t plane_elements;
  int B, C, F_in;
  int F1, half;
  int rows_per_block;  // of a plane
  int run;             // frequencies that a thread does one after the other; even
};

struct ConvSecondParameters {
  CUtensorMap a;  // both planes, one after the other
  CUtensorMap w;
  const int32_t* out_offsets;
  const float* bias;
  void* y;
  int B, C, F_out, half;
  int plane_positions;  // rows of `a` in a plane
};

using ConvFirstFunction = void (*)(ConvFirstParameters);
using ConvSecondFunction = void (*)(ConvSecondParameters);

inline constexpr int kConvFirstThreads = 256, kConvFirstChannels = 8;  // channels a thread
// Columns of features in shared memory: column x lies at x + 3, so that columns 4 i + 1 to 4 i + 4 are one access.
constexpr int ConvFirstRowFloats(int half) { return 4 * half + 4; }

ConvFirstFunction FindConvFirst(ConvStorage storage);
ConvSecondFunction FindConvSecond(ConvStorage storage, const ConvPairConfig& config);  // null: there is none

struct ConvSecondLayout {
  int threads, stages, blocks;  // blocks a multiprocessor
  uint32_t stage_bytes;
};
constexpr ConvSecondLayout ConvSecondLayoutOf(const ConvPairConfig& config) {
  ConvSecondLayout layout{};
  layout.stage_bytes = static_cast<uint32_t>((64 * config.groups + config.tile_n) * 128);
  layout.blocks = config.groups == 1 && config.tile_n == 64 ? 2 : 1;
  layout.stages = static_cast<int>((200U << 10) / layout.stage_bytes) / layout.blocks;
  layout.threads = config.groups == 2 ? 384 : 160;
  return layout;
}
// Ring, bias, first rows of the sequences, barriers.
constexpr uint32_t ConvSecondSharedBytes(const ConvPairConfig& config, int C, int B) {
  const ConvSecondLayout layout = ConvSecondLayoutOf(config);
  return 1024 + static_cast<uint32_t>(layout.stages) * layout.stage_bytes + static_cast<uint32_t>(C) * 4 +
         static_cast<uint32_t>(B + 1 + (B + 1) % 2) * 4 + static_cast<uint32_t>(layout.stages) * 16;
}

}  // namespace ting::cuda
