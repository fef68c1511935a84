// src/kernels/cuda/conv_pair_loads.cuh
// SPDX-License-Identifier: Apache-2.0
//
// What a block of conv_pair_kernel.cuh reads from memory: weights, by one lane, and features, by three warps.
#pragma once

#include "kernels/cuda/async_copies.cuh"
#include "kernels/cuda/conv_pair_block.cuh"

namespace ting::cuda {

// One lane. Weights of the first stages are on their way before the previous kernel has ended.
template <typename Shape>
__device__ inline void FetchWeights(const ConvPairParameters& p, const ConvPairBlock<Shape>& block) {
  constexpr int kGroups = 9 / Shape::kTaps, kPart = Shape::kChannels / kConvClusterBlocks;
  constexpr int kRowBytes = 2 * kConvChannels;
  constexpr uint32_t kStageBytes = Shape::kTaps * Shape::kChannels * kRowBytes;
  int stage = 0, channels = 0, group = 0;
  uint32_t parity = 1;  // the ring is empty at first
  const auto fetch = [&] {
    BarrierWait(&block.empty[stage], parity);
    BarrierExpect(&block.full[stage], kStageBytes);
    uint8_t* target = block.ring + stage * kStageBytes + block.rank * kPart * kRowBytes;
#pragma unroll
    for (int tap = 0; tap < Shape::kTaps; ++tap) {
      TmaLoad2dMulticast(target + tap * Shape::kChannels * kRowBytes, &p.w, &block.full[stage],
                         (group * Shape::kTaps + tap) * p.C + channels, block.channel0 + block.rank * kPart, 3);
    }
    if (++group == kGroups) group = 0, channels = channels + kConvChannels == p.C ? 0 : channels + kConvChannels;
    if (++stage == block.stages) stage = 0, parity ^= 1;
  };
  const int tile_steps = block.blocks * kGroups, ahead = min(block.stages, tile_steps);
  for (int step = 0; step < ahead; ++step) fetch();
  WaitForPreviousKernel();
  const int steps = block.Tiles(p) * tile_steps;
  for (int step = ahead; step < steps; ++step) fetch();
  if (steps > 0) return;
  for (int step = 0; step < ahead; ++step) BarrierWait(&block.full[step], 0);  // copies into a block that ends
}

// The warps beside the one that fetches: which rows a tile has, where its results go, and its features, a tile ahead of
// those who use them.
template <typename Shape>
class ConvPlanner {
 public:
  static constexpr int kThreads = 96;

  __device__ ConvPlanner(const ConvPairParameters& p, const ConvPairBlock<Shape>& block)
      : p_(p), block_(block), thread_(static_cast<int>(threadIdx.x) - (kConvPairThreads - kThreads)) {}

  __device__ void LoadNorms() const {
    for (int i = thread_; i < p_.F_in; i += kThreads) {
      block_.mean[i] = p_.mean != nullptr ? p_.mean[i] : 0.0F;
      block_.istd[i] = p_.istd != nullptr ? p_.istd[i] : 1.0F;
    }
  }

  __device__ void Run() const {
    uint32_t parity = 0;
    for (int tile = 0;;) {
      FindRows(tile);
      if (p_.F_in % 4 == 0) {
        LoadFeatures<float4>(block_.Table(tile));
      } else {
        LoadFeatures<float>(block_.Table(tile));
      }
      BarrierArrive(block_.full_features);
      if (++tile >= block_.Tiles(p_)) return;
      BarrierWait(block_.empty_features, parity);
      parity ^= 1;
    }
  }

 private:
  static constexpr int kBarrier = 4;

  // Each thread looks at some sequences and writes down those of the tile's rows that are theirs.
  __device__ void FindRows(int tile) const {
    const int position0 = block_.FirstPosition(tile), row0 = position0 / p_.F_out;
    ConvRow* table = block_.Table(tile);
    for (int i = thread_; i < kConvTableRows; i += kThreads) table[i] = {-1, -1};
    NamedBarrier(kBarrier, kThreads);
    for (int b = thread_; b < p_.B; b += kThreads) {
      const int frame = p_.in_offsets[b], begin = p_.out_offsets[b] + b, end = p_.out_offsets[b + 1] + b + 1;
      if (end == begin + 1) continue;  // no output, so nobody reads its row
      const int last = min(end, row0 + kConvTableRows);
      for (int row = max(begin, row0); row < last; ++row) {
        table[row - row0] = {frame + 4 * (row - begin), row + 1 < end ? b : -1};
      }
    }
    NamedBarrier(kBarrier, kThreads);
    for (int i = thread_; i < Shape::kPositions; i += kThreads) {
      const int sequence = table[(position0 + i) / p_.F_out - row0].sequence;
      block_.Targets(tile)[i] = sequence < 0 ? -1 : position0 + i - sequence * p_.F_out;
    }
  }
  // By float4 where rows are made of them. A last row of a sequence has 3 frames; what is nobody's may be anything.
  // Each thread normalises what it copied.
  template <typename Part>
  __device__ void LoadFeatures(const ConvRow* table) const {
    constexpr int kFloats = sizeof(Part) / 4;
    const int parts = p_.F_in / kFloats, count = 4 * block_.feature_rows * parts;
    for (int i = thread_; i < count; i += kThreads) {
      const int frame = i / parts;
      const ConvRow at = table[frame / 4];
      const bool valid = at.frame >= 0 && (at.sequence >= 0 || frame % 4 < 3);
      const float* source = p_.features;
      if (valid) source += int64_t{at.frame + frame % 4} * p_.F_in + (i - frame * parts) * kFloats;
      const uint32_t target = SharedAddress(block_.features + kFloats * i);
      if constexpr (kFloats == 4) {
        CopyAsync16(target, source, valid);
      } else {
        CopyAsync4(target, source, valid);
      }
    }
    WaitForAllCopies();
    auto* features = reinterpret_cast<Part*>(block_.features);
    const auto *mean = reinterpret_cast<const Part*>(block_.mean), *istd = reinterpret_cast<const Part*>(block_.istd);
#pragma unroll 2
    for (int i = thread_; i < count; i += kThreads) Normalise(features[i], mean[i % parts], istd[i % parts]);
  }
  __device__ static void Normalise(float& v, float mean, float istd) { v = (v - mean) * istd; }
  __device__ static void Normalise(float4& at, const float4& mean, const float4& istd) {
    float4 v = at;
    Normalise(v.x, mean.x, istd.x), Normalise(v.y, mean.y, istd.y);
    Normalise(v.z, mean.z, istd.z), Normalise(v.w, mean.w, istd.w);
    at = v;
  }

  const ConvPairParameters& p_;
  const ConvPairBlock<Shape>& block_;
  const int thread_;
};

}  // namespace ting::cuda
