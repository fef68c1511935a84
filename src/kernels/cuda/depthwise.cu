// src/kernels/cuda/depthwise.cu
// SPDX-License-Identifier: Apache-2.0
//
// The depthwise convolution over time with its norm and activation. A block takes kFrames rows and all channels, a thread
// two neighbouring channels at a time: it loads the frames that its rows see once, all loads in flight together, and
// keeps them in registers; what lies outside a row's sequence is replaced as it is used. A norm over the channels goes
// through shared memory, a warp a row.
#include <algorithm>

#include "base/return_if_error.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_kernels.h"
#include "kernels/cuda/row_math.cuh"

namespace ting::cuda {
namespace {

constexpr int kFrames = 8;

struct Bounds {  // of the sequence of each row of the block
  int begin[kFrames], end[kFrames];
};

template <typename T>
__device__ inline float2 LoadPair(const T* p) {
  if constexpr (sizeof(T) == 4) {
    return *reinterpret_cast<const float2*>(p);
  } else {
    T pair[2];
    const uint32_t packed = *reinterpret_cast<const uint32_t*>(p);
    memcpy(pair, &packed, sizeof pair);
    return {ToFloat(pair[0]), ToFloat(pair[1])};
  }
}

// Rows first + [0, kFrames) of channels d, d + 1 into sums [kFrames, D]. Rows past the last are computed and not used.
template <typename T, int kTaps>
__device__ inline void ConvolveInRegisters(const T* g, const DepthwiseParams& p, const Bounds& bounds, int first,
                                           int last_row, int d, int D, float* sums) {
  float2 window[kFrames + kTaps - 1];
#pragma unroll
  for (int i = 0; i < kFrames + kTaps - 1; ++i) {
    const int row = min(max(first + i - p.left, 0), last_row);
    window[i] = LoadPair(g + int64_t{row} * D + d);
  }
  const float2 edge = p.edge == nullptr ? float2{0, 0} : float2{p.edge[d], p.edge[d + 1]};
  const float2 bias = p.bias == nullptr ? float2{0, 0} : float2{p.bias[d], p.bias[d + 1]};
  float2 total[kFrames];
#pragma unroll
  for (int f = 0; f < kFrames; ++f) total[f] = bias;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    const float2 tap = LoadPair(p.taps + k * D + d);
#pragma unroll
    for (int f = 0; f < kFrames; ++f) {
      const int from = first + f + k - p.left;
      float2 v = window[f + k];
      if (from < bounds.begin[f]) v = edge;
      if (from >= bounds.end[f]) v = {0, 0};
      total[f].x += tap.x * v.x;
      total[f].y += tap.y * v.y;
    }
  }
#pragma unroll
  for (int f = 0; f < kFrames; ++f) *reinterpret_cast<float2*>(sums + f * D + d) = total[f];
}

// The same for any number of taps and an odd number of channels, a channel at a time.
template <typename T>
__device__ inline void Convolve(const T* g, const DepthwiseParams& p, const Bounds& bounds, int first, int d, int D,
                                float* sums) {
  for (int f = 0; f < kFrames; ++f) {
    float total = p.bias == nullptr ? 0.0F : p.bias[d];
    for (int k = 0; k < p.num_taps; ++k) {
      const int from = first + f + k - p.left;
      float v = 0;
      if (from >= bounds.begin[f] && from < bounds.end[f]) {
        v = ToFloat(g[int64_t{from} * D + d]);
      } else if (from < bounds.begin[f] && p.edge != nullptr) {
        v = p.edge[d];
      }
      total += p.taps[int64_t{k} * D + d] * v;
    }
    sums[f * D + d] = total;
  }
}

__device__ inline float ActivateBy(Activation activation, float v) {
  switch (activation) {
    case Activation::kRelu:
      return Activate<Activation::kRelu>(v);
    case Activation::kSwish:
      return Activate<Activation::kSwish>(v);
    case Activation::kGelu:
      return Activate<Activation::kGelu>(v);
    case Activation::kNone:
      break;
  }
  return v;
}

// Norm and activation of one row of sums, by a warp.
template <typename T>
__device__ inline void FinishRow(const DepthwiseParams& p, const float* in, int D, T* out) {
  const auto value = [&](int i) { return p.scale == nullptr ? in[i] : in[i] * p.scale[i] + p.shift[i]; };
  float2 moments{0, 1};
  if (p.norm.gamma != nullptr) moments = RowMoments(value, D, p.norm.eps);
  for (int i = threadIdx.x % 32; i < D; i += 32) {
    float v = value(i);
    if (p.norm.gamma != nullptr) v = (v - moments.x) * moments.y * p.norm.gamma[i] + p.norm.beta[i];
    out[i] = FromFloat<T>(ActivateBy(p.activation, v));
  }
}

// kTaps 0: any number.
template <typename T, int kTaps>
__global__ void __launch_bounds__(256) DepthwiseKernel(const T* g, DepthwiseParams p, DeviceRows sets, int rows,
                                                       const int32_t* count, int D, T* out) {
  extern __shared__ float sums[];  // [kFrames, D]
  __shared__ Bounds bounds;
  const int first = static_cast<int>(blockIdx.x) * kFrames;
  const int in_use = min(rows, *count);
  if (first >= in_use) return;
  if (threadIdx.x < kFrames) {
    const int row = min(first + static_cast<int>(threadIdx.x), in_use - 1);
    const int sequence = SequenceOf(sets.offsets, sets.max_sequences, row);
    bounds.begin[threadIdx.x] = sets.offsets[sequence], bounds.end[threadIdx.x] = sets.offsets[sequence + 1];
  }
  __syncthreads();
  if constexpr (kTaps > 0) {
    for (int d = 2 * threadIdx.x; d < D; d += 2 * blockDim.x) {
      ConvolveInRegisters<T, kTaps>(g, p, bounds, first, in_use - 1, d, D, sums);
    }
  } else {
    for (int d = threadIdx.x; d < D; d += blockDim.x) Convolve(g, p, bounds, first, d, D, sums);
  }
  __syncthreads();
  for (int f = threadIdx.x / 32; f < min(kFrames, in_use - first); f += blockDim.x / 32) {
    FinishRow(p, sums + f * D, D, out + int64_t{first + f} * D);
  }
}

template <typename T>
auto KernelFor(int num_taps, int64_t D) {
  if (D % 2 != 0) return DepthwiseKernel<T, 0>;
  switch (num_taps) {
    case 7:
      return DepthwiseKernel<T, 7>;
    case 8:
      return DepthwiseKernel<T, 8>;
    case 15:
      return DepthwiseKernel<T, 15>;
    default:
      return DepthwiseKernel<T, 0>;
  }
}

}  // namespace

Status DepthwiseRows(DType type, const void* g, const DepthwiseParams& params, const DeviceRows& rows, RowRange range,
                     int64_t D, void* out, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  const auto threads = static_cast<unsigned>(std::min<int64_t>(256, (D / 2 + 31) / 32 * 32 + 32 * (D < 64)));
  const LaunchShape shape{dim3(static_cast<unsigned>((range.rows + kFrames - 1) / kFrames)), dim3(threads),
                          static_cast<uint32_t>(kFrames * D * sizeof(float))};
  return WithType(type, [&](auto t) -> Status {
    using T = decltype(t);
    const auto kernel = KernelFor<T>(params.num_taps, D);
    if (shape.shared_bytes > 48 * 1024) TING_RETURN_IF_ERROR(AllowShared(kernel, shape.shared_bytes));
    return Launch(kernel, shape, stream, static_cast<const T*>(g), params, rows, static_cast<int>(range.rows), range.count,
                  static_cast<int>(D), static_cast<T*>(out));
  });
}

}  // namespace ting::cuda
