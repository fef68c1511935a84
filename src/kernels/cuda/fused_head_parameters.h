// src/kernels/cuda/fused_head_parameters.h
// SPDX-License-Identifier: Apache-2.0
//
// What the two sides of fused_head.h agree on: parameters of the kernels, and where things lie.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/fused_head.h"

namespace ting::cuda::head {

inline constexpr int kTile = 64;            // columns of one product
inline constexpr int kSegment = 2 * kTile;  // columns whose sum of exponentials is stored
inline constexpr int kGroup = 16;           // columns of a tile that one thread has of a row
inline constexpr int kSegmentGroups = kSegment / kGroup;
inline constexpr int kBlockRows = 64;       // of a warpgroup
inline constexpr int kBoxBytes = 64 * 128;  // 64 columns by 64 of K
inline constexpr int kStageK = 256;         // of a stage of the ring: four boxes
inline constexpr int kStageBytes = kStageK / 64 * kBoxBytes;
inline constexpr int kMaxStages = 4;
inline constexpr int kMaxBlockSegments = 40;  // whose bias fits beside the ring
inline constexpr int kNobody = 0x7FFFFFFF;    // id of a best symbol that does not exist

// A threshold for the k best is lowered by that much: logits closer than this may be equal as log-probabilities.
inline constexpr float kSlack = 0.01F;

constexpr int Segments(int64_t V) { return static_cast<int>((V + kSegment - 1) / kSegment); }

// Group g of a row: of segment g / 8, of the lane g / 2 % 4 of a quad, of the first or second tile g % 2. Its element
// i:
constexpr int GroupColumn(int g, int i) {
  return g / kSegmentGroups * kSegment + g % 2 * kTile + i / 2 * 8 + g / 2 % 4 * 2 + i % 2;
}

struct Parameters {
  CUtensorMap w;  // boxes of 64 x 64
  const float* x;
  const float* gamma;
  const float* beta;
  const float* bias;
  const int32_t* count;
  float2* sums;   // [segments, rows]: log2 of the largest exponential, sum of exponentials relative to it
  float* maxima;  // [rows, groups]: of a group; -inf: not kept. Of kTopK, as `kept`
  float* kept;    // [rows, groups, 16] logits
  void* rounded;  // [rows, K]: norm(x) as it was multiplied. Of kTargets
  int first_row;  // among those that `count` counts
  int rows, V, segments;
  int splits, sharing, stages;
  int blank;
  float penalty, eps;
};

// Best group maxima of a row that each of the four threads that share it remembers; four times that is k at most.
constexpr int RememberedFor(int64_t k) { return k == 0 ? 0 : k <= 12 ? 3 : 8; }

// Shared memory from a multiple of 1024 on: rows | ring | gamma, beta | bias of the block | barriers.
struct SharedLayout {
  int ring, gamma, bias, barriers, bytes;
};
constexpr SharedLayout LayoutOf(int K, int row_groups, int stages, int segments) {
  SharedLayout layout{};
  layout.ring = row_groups * kBlockRows * K * 2;
  layout.gamma = layout.ring + stages * kStageBytes;
  layout.bias = layout.gamma + 2 * K * 4;
  layout.barriers = layout.bias + segments * kSegment * 4;
  layout.bytes = layout.barriers + (2 * kMaxStages + 1) * 8;
  return layout;
}
// Consumers and the producer: a warp, or a warpgroup where it has registers to give away.
constexpr int Threads(int row_groups) { return row_groups == 1 ? 160 : 384; }

using Kernel = void (*)(Parameters);
// The kernel for k best (0: for targets), or null.
template <typename T>
Kernel FindKernel(int64_t K, int row_groups, int64_t k);

struct TopKParameters {
  const float2* sums;
  const float* maxima;
  const float* kept;
  const int32_t* count;
  float* logp;
  int32_t* ids;
  int first_row;
  int rows, V, segments, k;
};
Status LaunchFinishTopK(const TopKParameters& parameters, bool dependent, cudaStream_t stream);

struct TargetParameters {
  const float2* sums;
  const void* rounded;
  const void* w;
  const float* bias;
  const int32_t* count;
  const int32_t* target_rows;
  const int32_t* target_ids;
  const int32_t* target_count;
  float* logp;
  int rows, targets, V, K, segments, blank;
  float penalty;
};
Status LaunchFinishTargets(HalfType type, const TargetParameters& parameters, bool dependent, cudaStream_t stream);

}  // namespace ting::cuda::head
