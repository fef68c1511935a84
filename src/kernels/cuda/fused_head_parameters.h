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

inline constexpr int kSegment = 128;  // columns of a product, whose sum of exponentials is stored
inline constexpr int kGroup = 16;     // columns of half a segment that one thread has of a row
inline constexpr int kSegmentGroups = kSegment / kGroup;
inline constexpr int kBlockRows = 64;             // of a warpgroup
inline constexpr int kBoxBytes = kSegment * 128;  // a segment by 64 of K
inline constexpr int kStageK = 128;               // of a stage of the ring: two boxes
inline constexpr int kStageBytes = kStageK / 64 * kBoxBytes;
inline constexpr int kMaxStages = 4;
inline constexpr int kMaxBlockSegments = 40;  // whose bias fits beside the ring
inline constexpr int kNobody = 0x7FFFFFFF;    // id of a best symbol that does not exist

inline constexpr float kLowest = -1e30F;  // stands for -inf where differences are taken
// A threshold for the k best is lowered by that much: logits closer than this may be equal as log-probabilities.
inline constexpr float kSlack = 0.01F;

constexpr int Segments(int64_t V) { return static_cast<int>((V + kSegment - 1) / kSegment); }

// Group g of a row: of segment g / 8, of lane g / 2 % 4 of four, of the first or second half g % 2. Its element i:
constexpr int GroupColumn(uint32_t g, uint32_t i) {
  return static_cast<int>(g / kSegmentGroups * kSegment + g % 2 * (kSegment / 2) + i / 2 * 8 + g / 2 % 4 * 2 + i % 2);
}

// What is known of a group: its largest logit, and which of its elements may be among the k best: none, one, or
// several, and then all of the group are kept.
struct Group {
  float largest;
  int element;  // or:
};
inline constexpr int kNoElement = -1, kSeveral = kGroup;

struct Parameters {
  CUtensorMap w;  // boxes of a segment by 64
  const float* x;
  const float* gamma;
  const float* beta;
  const float* bias;
  const int32_t* count;
  float2* sums;   // [segments, rows]: log2 of a scale, often of the largest exponential; sum relative to it
  Group* groups;  // [rows, groups]. Of the k best, as `kept`
  float* kept;    // [rows, groups, 16] logits
  void* rounded;  // [rows, K]: norm(x) as it was multiplied. Of targets
  int first_row;  // among those that `count` counts
  int rows, V, segments;
  int k;  // 0: for targets
  int splits, sharing, stages;
  int blank;
  float penalty, eps;
};

// Largest values of a row that each of the four threads that share it remembers; k is at most four times that.
constexpr int RememberedFor(int64_t k) { return k == 0 ? 0 : k <= 12 ? 3 : 8; }

// Shared memory from a multiple of 1024 on: rows | ring | gamma, beta | bias of the block | barriers. The bias of the k
// best is there twice, see Consumer::StartWithBias.
struct SharedLayout {
  int ring, gamma, bias, barriers, bytes;
};
constexpr SharedLayout LayoutOf(int K, int row_groups, int stages, int segments, int k) {
  SharedLayout layout{};
  layout.ring = row_groups * kBlockRows * K * 2;
  layout.gamma = layout.ring + stages * kStageBytes;
  layout.bias = layout.gamma + 2 * K * 4;
  layout.barriers = layout.bias + segments * kSegment * (k == 0 ? 4 : 8);
  layout.bytes = layout.barriers + (2 * kMaxStages + 1) * 8;
  return layout;
}
// Consumers and the producer: a warp, or a warpgroup where it has registers to give away.
constexpr int Threads(int row_groups) { return row_groups == 1 ? 160 : (row_groups + 1) * 128; }

using Kernel = void (*)(Parameters);
// The kernel for k best (0: for targets), or null.
template <typename T>
Kernel FindKernel(int64_t K, int row_groups, int64_t k);

struct TopKParameters {
  const float2* sums;
  const Group* groups;
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
Status LaunchFinishTargets(DType type, const TargetParameters& parameters, bool dependent, cudaStream_t stream);

}  // namespace ting::cuda::head
