// src/kernels/cuda/conv_pair_first.cu
// SPDX-License-Identifier: Apache-2.0
//
// The first stage of ConvPair: one channel of features to C, into the planes of conv_pair_parameters.h. An utterance
// of 5 s has 160 KB of features and 5 MB of outputs: what counts are whole 16-byte stores and few instructions beside the
// 9 multiplications an output. So a thread keeps the 9 weights of each of its 8 channels in registers, and walks along
// the frequencies two positions at a time.
#include "kernels/cuda/conv_pair_math.cuh"
#include "kernels/cuda/conv_pair_parameters.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"

namespace ting::cuda {
namespace {

constexpr int kFrames = 5;  // that the two time rows of one row of the planes read
constexpr int kTaps = 9;

struct PlaneRow {
  int frame;  // its first one
  int rows;   // 2: the even and the odd one are wanted; 1: the even one, a sequence's last; 0: none
};

// Each thread looks at some sequences and writes down those of the block's rows that are theirs.
__device__ void FindPlaneRows(const ConvFirstParameters& p, int first, PlaneRow* found) {
  for (int i = static_cast<int>(threadIdx.x); i < p.rows_per_block; i += kConvFirstThreads) found[i] = {0, 0};
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < p.B; b += kConvFirstThreads) {
    const int begin = p.out_offsets[b] + b, end = p.out_offsets[b + 1] + b + 1;
    if (end == begin + 1) continue;  // no output, so nobody reads its row
    const int last = min(end, first + p.rows_per_block);
    for (int row = max(begin, first); row < last; ++row) {
      found[row - first] = {p.in_offsets[b] + 4 * (row - begin), row + 1 < end ? 2 : 1};
    }
  }
  __syncthreads();
}

__device__ void LoadFeatures(const ConvFirstParameters& p, const PlaneRow* found, float* features) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int i = warp; i < p.rows_per_block * kFrames; i += kConvFirstThreads / 32) {
    const PlaneRow at = found[i / kFrames];
    const int frame = i % kFrames;
    if (frame >= 2 * at.rows + 1 || at.rows == 0) continue;
    const float* source = p.features + int64_t{at.frame + frame} * p.F_in;
    float* target = features + i * ConvFirstRowFloats(p.half) + 3;
    for (int x = lane; x < p.F_in; x += 32) {
      target[x] = p.mean != nullptr ? (source[x] - p.mean[x]) * p.istd[x] : source[x];
    }
  }
  __syncthreads();
}

// The positions f, f + 1, ... below `end` of one time row for the thread's channels; `x`: column 2 f of the first frame.
template <typename T>
__device__ void WalkRow(const float (&weight)[kConvFirstChannels][kTaps], const float (&bias)[kConvFirstChannels],
                        const float* x, int row_floats, int count, int64_t C, T* y) {
  float window[3][5];
#pragma unroll
  for (int i = 0; i < 3; ++i) window[i][4] = x[i * row_floats];
#pragma unroll 1
  for (int f = 0; f < count; f += 2, x += 4, y += 2 * C) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const float4 next = *reinterpret_cast<const float4*>(x + i * row_floats + 1);
      window[i][0] = window[i][4];
      window[i][1] = next.x, window[i][2] = next.y, window[i][3] = next.z, window[i][4] = next.w;
    }
#pragma unroll
    for (int position = 0; position < 2; ++position) {
      if (f + position >= count) break;
      float sum[kConvFirstChannels];
#pragma unroll
      for (int c = 0; c < kConvFirstChannels; ++c) sum[c] = bias[c];
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) {
#pragma unroll
        for (int c = 0; c < kConvFirstChannels; ++c) {
          sum[c] = fmaf(weight[c][tap], window[tap / 3][2 * position + tap % 3], sum[c]);
        }
      }
      uint32_t packed[kConvFirstChannels / 2];
#pragma unroll
      for (int c = 0; c < kConvFirstChannels; c += 2) {
        packed[c / 2] = PackRelu2<T>(sum[c], sum[c + 1]);
      }
      *reinterpret_cast<uint4*>(y + position * C) = make_uint4(packed[0], packed[1], packed[2], packed[3]);
    }
  }
}

// Block: rows_per_block rows of both planes. Threads: C / 8 side by side for the channels of a position; each such slot
// takes runs of frequencies of a time row in turn.
template <typename T>
__global__ void __launch_bounds__(kConvFirstThreads, 2) ConvFirstKernel(const ConvFirstParameters p) {
  extern __shared__ float4 shared[];
  float* features = reinterpret_cast<float*>(shared);
  const int row_floats = ConvFirstRowFloats(p.half);
  PlaneRow* found = reinterpret_cast<PlaneRow*>(features + p.rows_per_block * kFrames * row_floats);
  const int across = p.C / kConvFirstChannels, slots = kConvFirstThreads / across;
  const int slot = static_cast<int>(threadIdx.x) / across;
  const int channel = static_cast<int>(threadIdx.x) % across * kConvFirstChannels;

  float weight[kConvFirstChannels][kTaps], bias[kConvFirstChannels];
  {
    T stored[kConvFirstChannels * kTaps];
    const uint4* source = reinterpret_cast<const uint4*>(static_cast<const T*>(p.weight) + channel * kTaps);
#pragma unroll
    for (int i = 0; i < kTaps; ++i) {
      const uint4 part = source[i];
      memcpy(&stored[8 * i], &part, sizeof part);
    }
#pragma unroll
    for (int c = 0; c < kConvFirstChannels; ++c) {
      bias[c] = p.bias[channel + c];
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) weight[c][tap] = ToFloat(stored[c * kTaps + tap]);
    }
  }
  WaitForPreviousKernel();
  const int first = static_cast<int>(blockIdx.x) * p.rows_per_block;
  if (first >= p.out_offsets[p.B] + p.B) return;
  FindPlaneRows(p, first, found);
  LoadFeatures(p, found, features);
  if (slot >= slots) return;

  const int runs = (p.F1 + p.run - 1) / p.run, items = p.rows_per_block * 2 * runs;
  for (int item = slot; item < items; item += slots) {
    const int row = item / (2 * runs), odd = item / runs % 2, f = item % runs * p.run;
    if (odd >= found[row].rows) continue;
    const float* x = features + (row * kFrames + 2 * odd) * row_floats + 3 + 2 * f;
    T* y = static_cast<T*>(p.planes) + odd * p.plane_elements + (int64_t{first + row} * 2 * p.half + f) * p.C + channel;
    WalkRow<T>(weight, bias, x, row_floats, min(p.run, p.F1 - f), p.C, y);
  }
}

}  // namespace

ConvFirstFunction FindConvFirst(ConvStorage storage) {
  return storage == ConvStorage::kF16 ? ConvFirstKernel<__half> : ConvFirstKernel<__nv_bfloat16>;
}

}  // namespace ting::cuda
