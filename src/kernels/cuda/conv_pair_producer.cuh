// src/kernels/cuda/conv_pair_producer.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The first stage of conv_pair_kernel.cuh: from features in shared memory to the operand B of the second.
#pragma once

#include "kernels/cuda/conv_pair_block.cuh"
#include "kernels/cuda/conv_pair_math.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ting::cuda {

// A value and what is left of it, as 16-bit pairs.
template <typename T>
__device__ inline void SplitPair(float low, float high, uint32_t& pair, uint32_t& rest) {
  const T parts[2] = {FromFloat<T>(low), FromFloat<T>(high)};
  memcpy(&pair, parts, sizeof pair);
  rest = Pack2<T>(low - ToFloat(parts[0]), high - ToFloat(parts[1]));
}

// The warps that make B. Units of work of a tile: two neighbouring frequencies of an even or an odd time row of a row
// of positions; they read 5 columns of 3 frames. The first frequency's value is the operand of tap 0 at position (row,
// pair) and of tap 2 at the one before it, the second one's that of tap 1.
template <typename T, typename Shape>
class ConvProducer {
 public:
  __device__ ConvProducer(const ConvPairParameters& p, const ConvPairBlock<Shape>& block)
      : p_(p),
        block_(block),
        thread_(static_cast<int>(threadIdx.x)),
        lane_(thread_ % 32),
        warp_(__shfl_sync(0xFFFFFFFF, thread_ / 32, 0)) {}

  __device__ void LoadTaps() const {
    const T* weight = static_cast<const T*>(p_.first_weight);
    for (int i = thread_; i < 4 * p_.C; i += kThreads) {
      const T* pair = weight + i / 4 * 9 + i % 4 * 2;  // word i: channel i / 4, taps 2 (i % 4) and the next
      const T taps[2] = {pair[0], pair[1]};
      memcpy(&block_.taps[i], taps, sizeof taps);
    }
    for (int i = thread_; i < p_.C / 2; i += kThreads) {
      block_.last_taps[i] = make_float4(ToFloat(weight[18 * i + 8]), ToFloat(weight[18 * i + 17]), p_.first_bias[2 * i],
                                        p_.first_bias[2 * i + 1]);
    }
    FenceAsyncProxy();
    NamedBarrier(kBarrier, kThreads);
  }

  // Two warpgroups take the blocks of channels in turn, and so each a buffer.
  __device__ void Run() {
    const int tiles = block_.Tiles(p_);
    int buffer = warp_ / 4;
    uint32_t parity = 1, parity_features = 0;
    for (int tile = 0; tile < tiles; ++tile) {
      FindUnits(block_.FirstPosition(tile) % p_.F_out);
      BarrierWait(block_.full_features, parity_features);
      parity_features ^= 1;
      LoadUnits();
      BarrierArrive(block_.empty_features);
#pragma unroll 1
      for (int i = warp_ / 4; i < block_.blocks; i += Shape::kProducers) {
        BarrierWait(&block_.empty_b[buffer], parity);
        Fill(i, block_.buffers + buffer * block_.buffer_bytes);
        FenceAsyncProxy();
        __syncwarp();
        if (lane_ == 0) BarrierArrive(&block_.full_b[buffer]);
        if constexpr (Shape::kProducers == 1) buffer ^= 1;
        if (buffer == warp_ / 4) parity ^= 1;
      }
    }
  }

 private:
  static constexpr int kThreads = Shape::kProducers * 128, kUnitTiles = Shape::kUnitTiles, kBarrier = 1;
  static constexpr int kNoSecond = 1 << 30;  // the last pair of a row has no second frequency, and no columns for it

  // 16 units of a warp a time, each looked at by two lanes, for which they are the rows of StoreMatrices.
  __device__ void FindUnits(int f0) {
    const int across = p_.F_out + 1, even_last = f0 + block_.even_rows - 1, odd_last = f0 + Shape::kPositions - 1;
    const int even = even_last / p_.F_out * across + even_last % p_.F_out + 2 - f0;
    const int odd = odd_last / p_.F_out * across + odd_last % p_.F_out + 2 - f0;
#pragma unroll
    for (int s = 0; s < kUnitTiles; ++s) {
      int unit = (warp_ % 4 + 4 * s) * 16 + lane_ % 16;
      const bool is_odd = unit >= even;
      if (is_odd) unit -= even;
      const bool any = unit < (is_odd ? odd : even);
      if (!any) unit = 0;
      const int row = (f0 + unit) / across, pair = (f0 + unit) % across, position = row * p_.F_out + pair - f0;
      const int limit = is_odd ? Shape::kPositions : block_.even_rows;
      const bool here = any && pair < p_.F_out && position < limit;
      const bool before = any && pair > 0 && position > 0 && position <= limit;
      const int place = 16 * (position + (is_odd ? 3 * block_.even_rows : 0)), nowhere = 16 * (block_.plane_rows - 1);
      places_[s] = static_cast<uint32_t>(here ? place + (lane_ < 16 ? 0 : 16 * limit) : nowhere) |
                   static_cast<uint32_t>(before ? place + 32 * limit - 16 : nowhere) << 16;
      features_[s] = (4 * row + (is_odd ? 2 : 0)) * p_.F_in + 4 * pair;
      if (pair == p_.F_out) features_[s] |= kNoSecond;
    }
  }

  // A of wgmma: taps 2 t and the next of rows g and g + 8, g = lane / 4, t = lane % 4, then what 16 bits leave of them;
  // and the ninth tap.
  struct Operands {
    uint32_t a[4];
    float last[2];
  };
  __device__ void LoadUnits() {
    const int tap = 2 * (lane_ % 4);
    const int at0 = tap / 3 * p_.F_in + tap % 3, at1 = (tap + 1) / 3 * p_.F_in + (tap + 1) % 3, at8 = 2 * p_.F_in + 2;
#pragma unroll
    for (int s = 0; s < kUnitTiles; ++s) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int place = __shfl_sync(0xFFFFFFFF, features_[s], lane_ / 4 + 8 * half);
#pragma unroll
        for (int second = 0; second < 2; ++second) {
          const float* first = block_.features + (place & ~kNoSecond) + (second == 0 || place & kNoSecond ? 0 : 2);
          Operands& to = units_[s][second];
          SplitPair<T>(first[at0], first[at1], to.a[half], to.a[2 + half]);
          to.last[half] = first[at8];
        }
      }
    }
  }

  // Channels 32 i to 32 i + 31 into `buffer`, 16 of 64 units a round, whose products run beside the stores of the last.
  __device__ void Fill(int i, uint8_t* buffer) const {
    constexpr int kRounds = 2 * kUnitTiles;
    float sum[2][2][8];
    float4 last[2];
    Multiply(i, 0, last, sum[0]);
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      if (round + 1 < kRounds) {
        Multiply(i, round + 1, last, sum[(round + 1) % 2]);
        WgmmaWait<1>();
      } else {
        WgmmaWait<0>();
      }
      WgmmaHold(sum[round % 2][0]);
      WgmmaHold(sum[round % 2][1]);
      Store(buffer, round, sum[round % 2]);
    }
  }
  __device__ void Multiply(int i, int round, float4 (&last)[2], float (&sum)[2][8]) const {
    const int half = round / kUnitTiles, s = round % kUnitTiles, channel = i * kConvChannels + half * 16;
    if (s == 0) {
#pragma unroll
      for (int j = 0; j < 2; ++j) last[j] = block_.last_taps[(channel / 8 + j) * 4 + lane_ % 4];
    }
    // [channel, tap] in core matrices of 8 channels; the second K of 8 is the first one again.
    const uint64_t b = uint64_t{(SharedAddress(block_.taps + channel * 4) & 0x3FFFF) >> 4} | uint64_t{128 >> 4} << 32;
#pragma unroll
    for (int second = 0; second < 2; ++second) {
      const float(&x)[2] = units_[s][second].last;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float* to = &sum[second][4 * j];
        to[0] = fmaf(last[j].x, x[0], last[j].z), to[1] = fmaf(last[j].y, x[0], last[j].w);
        to[2] = fmaf(last[j].x, x[1], last[j].z), to[3] = fmaf(last[j].y, x[1], last[j].w);
      }
    }
    WgmmaFence();
    AddTaps<T>(sum[0], units_[s][0].a, b);
    AddTaps<T>(sum[1], units_[s][1].a, b);
    WgmmaCommit();
  }
  __device__ void Store(uint8_t* buffer, int round, const float (&sum)[2][8]) const {
    const uint32_t places = places_[round % kUnitTiles];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float *v = &sum[0][4 * j], *w = &sum[1][4 * j];
      const uint32_t words[4] = {PackRelu2<T>(v[0], v[1]), PackRelu2<T>(v[2], v[3]), PackRelu2<T>(w[0], w[1]),
                                 PackRelu2<T>(w[2], w[3])};
      uint8_t* target = buffer + (round / kUnitTiles * 2 + j) * block_.plane_rows * 16;
      StoreMatrices(target + (places & 0xFFFF), words);
      StorePair(target + (places >> 16), words[0], words[1]);
    }
  }
  // Two 8 x 8 matrices, as StoreMatrices; lanes 0 to 15 give the addresses.
  __device__ static void StorePair(void* row, uint32_t a, uint32_t b) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(SharedAddress(row)), "r"(a), "r"(b)
                 : "memory");
  }

  const ConvPairParameters& p_;
  const ConvPairBlock<Shape>& block_;
  const int thread_, lane_, warp_;
  int features_[kUnitTiles];  // place of the first that the lane's unit reads, and kNoSecond
  Operands units_[kUnitTiles][2];
  uint32_t places_[kUnitTiles];  // bytes in a buffer's 8 channels of the lane's unit: (row, pair); the one before it
};

}  // namespace ting::cuda
