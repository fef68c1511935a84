// src/kernels/cuda/conv_pair_consumer.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The second stage of conv_pair_kernel.cuh: products, bias, ReLU and the stores.
#pragma once

#include "kernels/cuda/conv_pair_block.cuh"
#include "kernels/cuda/conv_pair_math.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda {

// A warpgroup that multiplies.
template <typename T, typename Shape>
class ConvConsumer {
 public:
  __device__ ConvConsumer(const ConvPairParameters& p, const ConvPairBlock<Shape>& block)
      : p_(p),
        block_(block),
        thread_(static_cast<int>(threadIdx.x) % 128),
        group_(__shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128 - Shape::kProducers, 0)) {}

  __device__ void LoadBias() {
#pragma unroll
    for (int i = 0; i < 2 * Shape::kTiles; ++i) {
      const int channel = Channel(i / 2) + thread_ / 32 * 16 + i % 2 * 8 + thread_ % 32 / 4;
      bias_[i] = channel < p_.C ? p_.second_bias[channel] : 0.0F;
    }
  }

  __device__ void Run() {
    const int tiles = block_.Tiles(p_);
    float sum[Shape::kTiles][Shape::kSums];
    for (int tile = 0; tile < tiles; ++tile) {
      Multiply(sum);
#pragma unroll
      for (int m = 0; m < Shape::kTiles; ++m) {
        if (Channel(m) >= p_.C) break;
        Write(sum[m], bias_[2 * m], bias_[2 * m + 1], Channel(m), block_.Targets(tile));
      }
    }
  }

 private:
  static constexpr int kRowBytes = 2 * kConvChannels;

  __device__ int Channel(int m) const { return block_.channel0 + (group_ * Shape::kTiles + m) * 64; }

  // W: rows of 64 bytes, swizzled by 64. B: core matrices side by side along the positions.
  __device__ static uint64_t DescriptorW(const uint8_t* tile) {
    return uint64_t{(SharedAddress(tile) & 0x3FFFF) >> 4} | uint64_t{1} << 16 | uint64_t{512 >> 4} << 32 |
           uint64_t{2} << 62;
  }
  __device__ uint64_t DescriptorB(const uint8_t* buffer) const {
    return uint64_t{(SharedAddress(buffer) & 0x3FFFF) >> 4} | static_cast<uint64_t>(block_.plane_rows) << 16 |
           uint64_t{128 >> 4} << 32;
  }

  __device__ void Multiply(float (&sum)[Shape::kTiles][Shape::kSums]) {
    int previous = -1;
    bool accumulate = false;
    for (int i = 0; i < block_.blocks; ++i) {
      BarrierWait(&block_.full_b[buffer_], buffer_parity_);
      const uint64_t b = DescriptorB(block_.buffers + buffer_ * block_.buffer_bytes);
#pragma unroll 1
      for (int time = 0; time < 3; ++time) {
        const int first = time == 0 ? 0 : time == 1 ? 3 * block_.even_rows : p_.F_out;
        const int pitch = time == 1 ? Shape::kPositions : block_.even_rows;
#pragma unroll 1
        for (int frequency = 0; frequency < 3; frequency += Shape::kTaps) {
          BarrierWait(&block_.full[stage_], parity_);
          WgmmaFence();
          Step(sum, b + static_cast<uint32_t>(first + frequency * pitch), pitch, accumulate);
          WgmmaCommit();
          accumulate = true;
          if (previous >= 0) {
            WgmmaWait<1>();
            Release(previous);
          }
          if (i > 0 && time == 0 && frequency == 0) ReleaseB(buffer_ ^ 1);
          previous = stage_;
          if (++stage_ == block_.stages) stage_ = 0, parity_ ^= 1;
        }
      }
      if ((buffer_ ^= 1) == 0) buffer_parity_ ^= 1;
    }
    WgmmaWait<0>();
#pragma unroll
    for (int m = 0; m < Shape::kTiles; ++m) WgmmaHold(sum[m]);
    Release(previous);
    ReleaseB(buffer_ ^ 1);
  }
  // The taps of one stage of W.
  __device__ void Step(float (&sum)[Shape::kTiles][Shape::kSums], uint64_t b, int pitch, bool accumulate) const {
    const uint8_t* w = block_.ring + stage_ * (Shape::kTaps * Shape::kChannels * kRowBytes);
#pragma unroll
    for (int tap = 0; tap < Shape::kTaps; ++tap) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int m = 0; m < Shape::kTiles; ++m) {
          const int row = tap * Shape::kChannels + (group_ * Shape::kTiles + m) * 64;
          Wgmma<T, Shape::kPositions>::SS(sum[m], DescriptorW(w + row * kRowBytes) + 2 * half,
                                          b + static_cast<uint32_t>(tap * pitch + 2 * half * block_.plane_rows),
                                          accumulate || tap > 0 || half > 0);
        }
      }
    }
  }
  __device__ void Release(int stage) const {
    const uint32_t lane = threadIdx.x % 32;
    if (lane < kConvClusterBlocks) BarrierArriveRemote(&block_.empty[stage], lane);
  }
  __device__ void ReleaseB(int buffer) const {
    if (threadIdx.x % 32 == 0) BarrierArrive(&block_.empty_b[buffer]);
  }

  // Bias, ReLU and the stores, by way of shared memory: a thread has sums of neighbouring positions, y's neighbours are
  // channels.
  __device__ void Write(const float (&sum)[Shape::kSums], float low, float high, int channel,
                        const int32_t* targets) const {
    constexpr int kStaged = Shape::kStaged;
    uint8_t* staging = block_.staging + group_ * (kStaged * 128);
    const int lane = thread_ % 32, place = lane / 16 * 8 + lane % 8;
    const int column = thread_ / 32 * 32 + lane / 8 % 2 * 16;
#pragma unroll
    for (int round = 0; round < Shape::kPositions / kStaged; ++round) {
      NamedBarrier(2 + group_, 128);  // what lies there has been read
#pragma unroll
      for (int part = 0; part < kStaged / 16; ++part) {
        const float* v = &sum[8 * (round * (kStaged / 16) + part)];
        const uint32_t words[4] = {
            PackRelu2<T>(v[0] + low, v[1] + low), PackRelu2<T>(v[2] + high, v[3] + high),
            PackRelu2<T>(v[4] + low, v[5] + low), PackRelu2<T>(v[6] + high, v[7] + high)};
        const int row = part * 16 + place;
        StoreMatricesTransposed(staging + row * 128 + (column ^ ((row & 7) << 4)), words);
      }
      NamedBarrier(2 + group_, 128);
#pragma unroll
      for (int part = 0; part < kStaged / 16; ++part) {
        const int row = part * 16 + thread_ / 8, target = targets[round * kStaged + row];
        const uint4 v = *reinterpret_cast<const uint4*>(staging + row * 128 + ((thread_ % 8 ^ (row & 7)) << 4));
        T* y = static_cast<T*>(p_.y) + int64_t{target} * p_.C + channel + thread_ % 8 * 8;
        if (target >= 0) *reinterpret_cast<uint4*>(y) = v;
      }
    }
  }

  const ConvPairParameters& p_;
  const ConvPairBlock<Shape>& block_;
  const int thread_, group_;
  float bias_[2 * Shape::kTiles];
  int stage_ = 0, buffer_ = 0;
  uint32_t parity_ = 0, buffer_parity_ = 0;
};

}  // namespace ting::cuda
