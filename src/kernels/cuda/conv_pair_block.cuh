// src/kernels/cuda/conv_pair_block.cuh
// SPDX-License-Identifier: Apache-2.0
//
// A block of conv_pair_kernel.cuh: its shape, where its shared memory lies, and which tiles are its.
#pragma once

#include "kernels/cuda/conv_pair_parameters.h"
#include "kernels/cuda/hopper.cuh"

namespace ting::cuda {

template <int kChannels_, int kPositions_>
struct ConvPairShape {
  static constexpr ConvPairConfig kConfig = {kChannels_, kPositions_};
  static constexpr ConvPairRoles kRoles = ConvPairRolesOf(kConfig);
  static constexpr int kChannels = kChannels_, kPositions = kPositions_;
  static constexpr int kConsumers = kRoles.consumers, kTiles = kRoles.tiles, kProducers = kRoles.producers;
  static constexpr int kUnitTiles = kRoles.unit_tiles, kTaps = kRoles.taps, kStaged = kRoles.staged;
  static constexpr int kSums = kPositions / 2;  // of a thread, for a tile of channels
  static_assert((kConsumers + kProducers + 1) * 128 == kConvPairThreads);
  static_assert(kPositions % kStaged == 0 && kStaged % 16 == 0 && kConsumers * kTiles * 64 == kChannels);
};

// A row of positions: the first of its frames, -1 if the row is nobody's; its sequence, -1 if it has no output.
struct ConvRow {
  int frame, sequence;
};

// Where a block's shared memory lies, and its work.
template <typename Shape>
struct ConvPairBlock {
  __device__ ConvPairBlock(const ConvPairParameters& p, uint8_t* shared)
      : stages(p.stages), even_rows(Shape::kPositions + p.F_out) {
    const ConvPairConfig config = {Shape::kChannels, Shape::kPositions};
    const ConvPairLayout layout = ConvPairLayoutOf(config, p.C, p.F_in, p.F_out, p.stages);
    plane_rows = layout.plane_rows;
    ring = shared + BytesToTile(shared);
    staging = ring + p.stages * layout.stage_bytes;
    buffers = staging + Shape::kConsumers * layout.staging_bytes;
    buffer_bytes = layout.buffer_bytes;
    taps = reinterpret_cast<uint32_t*>(buffers + 2 * layout.buffer_bytes);
    last_taps = reinterpret_cast<float4*>(taps + 4 * p.C);
    mean = reinterpret_cast<float*>(last_taps + p.C / 2);
    istd = mean + p.F_in;
    features = istd + p.F_in;
    feature_rows = layout.feature_rows;
    table = reinterpret_cast<ConvRow*>(features + layout.feature_rows * 4 * p.F_in);
    targets = reinterpret_cast<int32_t*>(table + kConvTables * kConvTableRows);
    full_b = reinterpret_cast<uint64_t*>(targets + kConvTables * Shape::kPositions);
    empty_b = full_b + 2;
    full_features = empty_b + 2;
    empty_features = full_features + 1;
    full = empty_features + 1;
    empty = full + p.stages;
    const int cluster = static_cast<int>(blockIdx.x) / kConvClusterBlocks;
    const int clusters = static_cast<int>(gridDim.x) / kConvClusterBlocks;
    rank = static_cast<int>(blockIdx.x) % kConvClusterBlocks;
    const int columns = (p.C + Shape::kChannels - 1) / Shape::kChannels;
    channel0 = cluster % columns * Shape::kChannels;
    first_pair = cluster / columns, pair_stride = clusters / columns;
    blocks = p.C / kConvChannels;
  }
  // Tiles of this block, one of each pair of its cluster; some may lie behind the last position.
  __device__ int Tiles(const ConvPairParameters& p) const {
    constexpr int kPair = kConvClusterBlocks * Shape::kPositions;
    const int pairs = ((p.out_offsets[p.B] + p.B) * p.F_out + kPair - 1) / kPair;
    return pairs <= first_pair ? 0 : (pairs - first_pair + pair_stride - 1) / pair_stride;
  }
  __device__ int FirstPosition(int tile) const {
    return ((first_pair + tile * pair_stride) * kConvClusterBlocks + rank) * Shape::kPositions;
  }
  __device__ ConvRow* Table(int tile) const { return table + tile % kConvTables * kConvTableRows; }
  __device__ int32_t* Targets(int tile) const { return targets + tile % kConvTables * Shape::kPositions; }

  const int stages, even_rows;
  int plane_rows, feature_rows, rank, channel0, first_pair, pair_stride, blocks;
  uint32_t buffer_bytes;
  uint8_t* ring;
  uint8_t* staging;
  uint8_t* buffers;
  uint32_t* taps;     // the first 8 of each channel, in pairs
  float4* last_taps;  // of 2 channels each: the ninth weights, the biases
  float* mean;        // with istd: of CMVN
  float* istd;
  float* features;    // of the tile's rows, 4 frames each: a row's fifth is the next one's first
  ConvRow* table;
  int32_t* targets;  // of a position: its place among those of y, or -1
  uint64_t* full_b;
  uint64_t* empty_b;
  uint64_t* full_features;
  uint64_t* empty_features;
  uint64_t* full;
  uint64_t* empty;
};

}  // namespace ting::cuda
