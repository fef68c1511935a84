// src/kernels/cuda/row_convolution.cuh
// SPDX-License-Identifier: Apache-2.0
//
// A depthwise convolution over time in registers: a thread has two neighbouring channels of kFrames rows, a warp 64
// channels, D / 64 warps a row. All frames that the rows see are on their way together. Where the rows belong to
// several sequences, the sums are made once a sequence from frames masked for it, so that the common case, one
// sequence, pays nothing for the others. A row's sum runs over the taps in their order, whatever rows lie beside it.
// Rejected: the same as the prologue of the product behind it (rows staged in shared memory, convolved once a block of
// columns). It saves a launch and was no faster in a model: 0.595 against 0.574 ms an encoder step at batch 1, 2.496
// against 2.497 at 64 (`ting bench --random-weights aishell --stages 1,64 --precision f16`, H100).
#pragma once

#include <type_traits>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/row_convolution.h"

namespace ting::cuda {

struct SequenceBounds {
  int begin, end;
};

// Of the sequence that holds `row`, found by a warp: the last offset at or before the row and the first one behind it.
// 128 offsets are compared at a time, because a search's steps would each wait for memory. Behind the last sequence
// `end` is far away.
__device__ inline SequenceBounds FindSequence(const int32_t* offsets, int count, int row) {
  constexpr int kFar = 1 << 30, kEach = 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int begin = 0, end = kFar;
#pragma unroll 1
  for (int base = 0; base < count; base += 32 * kEach) {
    int offset[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int index = base + 32 * i + lane;
      offset[i] = index < count ? offsets[index] : kFar;
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (offset[i] <= row) begin = max(begin, offset[i]);
      if (offset[i] > row) end = min(end, offset[i]);
    }
  }
  return {__reduce_max_sync(0xFFFFFFFF, begin), __reduce_min_sync(0xFFFFFFFF, end)};
}

// Two neighbouring channels as they are stored.
template <typename T>
using ChannelPair = std::conditional_t<sizeof(T) == 4, float2, uint32_t>;

__device__ inline float2 LoadFloats(const float* p) { return *reinterpret_cast<const float2*>(p); }
template <typename T>
__device__ inline float2 ToFloats(const ChannelPair<T>& pair) {
  if constexpr (sizeof(T) == 4) {
    return pair;
  } else {
    T values[2];
    memcpy(values, &pair, sizeof values);
    return {ToFloat(values[0]), ToFloat(values[1])};
  }
}
template <typename T>
__device__ inline ChannelPair<T> ToPair(const float2& v) {
  if constexpr (sizeof(T) == 4) {
    return v;
  } else {
    return PackSaturated<T>(v.x, v.y);
  }
}

// Of a thread's two channels.
template <typename T, int kTaps>
struct ConvolutionWeights {
  float2 taps[kTaps], bias;
  ChannelPair<T> edge;

  __device__ void Load(const RowConvolution& c, int D, int channel) {
#pragma unroll
    for (int k = 0; k < kTaps; ++k) taps[k] = LoadFloats(c.taps + k * D + channel);
    bias = c.bias == nullptr ? float2{0, 0} : LoadFloats(c.bias + channel);
    edge = ToPair<T>(c.edge == nullptr ? float2{0, 0} : LoadFloats(c.edge + channel));
  }
};

template <typename T, int kTaps, int kFrames>
class ConvolutionWindow {
 public:
  static constexpr int kSeen = kFrames + kTaps - 1;

  // Frames first + [0, kSeen); those outside the matrix, which are in nobody's sequence, are its edge rows. `x` is at
  // the thread's channels.
  __device__ void Load(const T* x, int64_t stride, int first, int rows) {
#pragma unroll
    for (int i = 0; i < kSeen; ++i) {
      const int row = min(max(first + i, 0), rows - 1);
      frames_[i] = *reinterpret_cast<const ChannelPair<T>*>(x + row * stride);
    }
  }
  // What the sequence of frames [begin, end) sees; counted from the window's first.
  __device__ void Mask(int begin, int end, const ChannelPair<T>& edge) {
    if (begin <= 0 && end >= kSeen) return;
#pragma unroll
    for (int i = 0; i < kSeen; ++i) {
      if (i < begin) frames_[i] = edge;
      if (i >= end) frames_[i] = ChannelPair<T>{};
    }
  }
  // Sums of rows [low, high) of the window's kFrames. Four rows at once: their sums do not wait for each other.
  __device__ void Sum(const ConvolutionWeights<T, kTaps>& weights, int low, int high, float2 (&sums)[kFrames]) const {
#pragma unroll
    for (int four = 0; four < kFrames; four += 4) {
      if (four + 4 <= low || four >= high) continue;
      float2 total[4] = {weights.bias, weights.bias, weights.bias, weights.bias};
#pragma unroll
      for (int i = 0; i < kTaps + 3; ++i) {
        const float2 v = ToFloats<T>(frames_[four + i]);
#pragma unroll
        for (int f = 0; f < 4; ++f) {
          const int k = i - f;
          if (k < 0 || k >= kTaps) continue;
          total[f].x = fmaf(weights.taps[k].x, v.x, total[f].x);
          total[f].y = fmaf(weights.taps[k].y, v.y, total[f].y);
        }
      }
#pragma unroll
      for (int f = 0; f < 4; ++f) {
        if (four + f >= low && four + f < high) sums[four + f] = total[f];
      }
    }
  }

 private:
  ChannelPair<T> frames_[kSeen];
};

// The sums of rows first + [0, kFrames) of x [rows, D], of which `channel` is the thread's first channel; what is in no
// sequence is anything.
template <typename T, int kTaps, int kFrames>
__device__ inline void ConvolveRows(const RowConvolution& c, const ConvolutionWeights<T, kTaps>& weights, const T* x,
                                    int rows, int D, int channel, int first, float2 (&sums)[kFrames]) {
  const int seen = first - c.left;
  ConvolutionWindow<T, kTaps, kFrames> window;
  window.Load(x + channel, D, seen, rows);
  for (int low = 0;;) {
    const SequenceBounds bounds = FindSequence(c.offsets, c.sequences + 1, first + low);
    const int high = min(bounds.end - first, kFrames);
    window.Mask(bounds.begin - seen, bounds.end - seen, weights.edge);
    window.Sum(weights, low, high, sums);
    if (high == kFrames) return;
    low = high;
    window.Load(x + channel, D, seen, rows);
  }
}

// Sums over a warp of each of n values, n a power of two: lane l has that of value ReversedBits<n>(l). Which lanes meet
// in which order is the same for every value and every n.
template <int kBit = 1, int n>
__device__ inline float SumsOverWarp(const float (&v)[n]) {
  if constexpr (n > 1) {
    const bool upper = (threadIdx.x & kBit) != 0;
    float half[n / 2];
#pragma unroll
    for (int i = 0; i < n / 2; ++i) {
      const float mine = upper ? v[i + n / 2] : v[i], theirs = upper ? v[i] : v[i + n / 2];
      half[i] = mine + __shfl_xor_sync(0xFFFFFFFF, theirs, kBit);
    }
    return SumsOverWarp<2 * kBit>(half);
  } else {
    float sum = v[0];
#pragma unroll
    for (int bit = kBit; bit < 32; bit *= 2) sum += __shfl_xor_sync(0xFFFFFFFF, sum, bit);
    return sum;
  }
}
template <int n>
__device__ inline int ReversedBits(int lane) {  // of lane < n
  return static_cast<int>(__brev(static_cast<uint32_t>(lane)) / (0xFFFFFFFF / n + 1));
}

// LayerNorm of kFrames rows over kWarps warps of which this is `warp`. `shared` has room for 2 * kFrames * kWarps
// floats at a multiple of 16 bytes; `meet` is a barrier of the warps.
template <int kWarps, int kFrames, typename Meet>
class RowsNorm {
 public:
  __device__ RowsNorm(float* shared, int warp, Meet meet) : shared_(shared), warp_(warp), meet_(meet) {}

  __device__ void Apply(float2 (&v)[kFrames], const float2& gamma, const float2& beta, float eps) const {
    float part[kFrames], total[kFrames];
#pragma unroll
    for (int f = 0; f < kFrames; ++f) part[f] = v[f].x + v[f].y;
    Total(part, shared_, total);
#pragma unroll
    for (int f = 0; f < kFrames; ++f) {
      const float mean = total[f] * (1.0F / (64 * kWarps));
      v[f].x -= mean, v[f].y -= mean;
      part[f] = fmaf(v[f].x, v[f].x, v[f].y * v[f].y);
    }
    Total(part, shared_ + kFrames * kWarps, total);
#pragma unroll
    for (int f = 0; f < kFrames; ++f) {
      const float scale = rsqrtf(total[f] * (1.0F / (64 * kWarps)) + eps);
      v[f].x = fmaf(v[f].x * scale, gamma.x, beta.x), v[f].y = fmaf(v[f].y * scale, gamma.y, beta.y);
    }
  }

 private:
  __device__ void Total(float (&part)[kFrames], float* place, float (&total)[kFrames]) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const float sum = SumsOverWarp(part);
    if (lane < kFrames) place[ReversedBits<kFrames>(lane) * kWarps + warp_] = sum;
    meet_();
#pragma unroll
    for (int f = 0; f < kFrames; ++f) {
      float4 four = *reinterpret_cast<const float4*>(place + f * kWarps);
      total[f] = (four.x + four.y) + (four.z + four.w);
      if constexpr (kWarps == 8) {
        four = *reinterpret_cast<const float4*>(place + f * kWarps + 4);
        total[f] += (four.x + four.y) + (four.z + four.w);
      }
    }
  }

  float* shared_;
  int warp_;
  Meet meet_;
};

template <int kFrames>
__device__ inline void ActivateRows(Activation activation, float2 (&v)[kFrames]) {
  const auto apply = [&](auto activate) {
#pragma unroll
    for (int f = 0; f < kFrames; ++f) v[f] = {activate(v[f].x), activate(v[f].y)};
  };
  if (activation == Activation::kRelu) apply([](float e) { return Activate<Activation::kRelu>(e); });
  if (activation == Activation::kSwish) apply([](float e) { return e * SigmoidFast(e); });
  if (activation == Activation::kGelu) apply([](float e) { return Activate<Activation::kGelu>(e); });
}

}  // namespace ting::cuda
