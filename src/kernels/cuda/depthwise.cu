// src/kernels/cuda/depthwise.cu
// SPDX-License-Identifier: Apache-2.0
//
// The depthwise convolution over time with its norm and activation. A block takes kFrames rows and all channels, a thread
// two neighbouring channels at a time: it loads the frames that its rows see once, all loads in flight together, and
// keeps them in registers; what lies outside a row's sequence is replaced as it is used. A norm over the channels goes
// through shared memory, a warp a row.
#include <algorithm>

#include "base/return_if_error.h"
#include "kernels/cuda/hopper.cuh"
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

// The frames that rows first + [0, kFrames) see, of channels d, d + 1. Rows outside the matrix are read as its edge rows:
// they are in nobody's sequence.
template <typename T, int kTaps>
struct Window {
  float2 frames[kFrames + kTaps - 1];

  __device__ void Load(const T* g, int first, int left, int rows, int d, int D) {
#pragma unroll
    for (int i = 0; i < kFrames + kTaps - 1; ++i) {
      const int row = min(max(first + i - left, 0), rows - 1);
      frames[i] = LoadPair(g + int64_t{row} * D + d);
    }
  }
};
template <int kTaps>
struct Taps {
  float2 taps[kTaps], edge, bias;

  __device__ void Load(const DepthwiseParams& p, int d, int D) {
#pragma unroll
    for (int k = 0; k < kTaps; ++k) taps[k] = LoadPair(p.taps + k * D + d);
    edge = p.edge == nullptr ? float2{0, 0} : LoadPair(p.edge + d);
    bias = p.bias == nullptr ? float2{0, 0} : LoadPair(p.bias + d);
  }
};

template <typename T, int kTaps>
__device__ inline void Convolve(const Window<T, kTaps>& window, const Taps<kTaps>& weights, const Bounds& bounds, int first,
                                int left, int d, int D, float* sums) {
#pragma unroll
  for (int f = 0; f < kFrames; ++f) {
    const int begin = bounds.begin[f] - (first + f - left), end = bounds.end[f] - (first + f - left);
    float2 total = weights.bias;
#pragma unroll
    for (int k = 0; k < kTaps; ++k) {
      float2 v = window.frames[f + k];
      if (k < begin) v = weights.edge;
      if (k >= end) v = {0, 0};
      total.x += weights.taps[k].x * v.x;
      total.y += weights.taps[k].y * v.y;
    }
    *reinterpret_cast<float2*>(sums + f * D + d) = total;
  }
}

// The same for any number of taps and channels, a channel at a time.
template <typename T>
__device__ inline void ConvolveAny(const T* g, const DepthwiseParams& p, const Bounds& bounds, int first, int d, int D,
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

// Of the sequence of each row of the block; rows past those in use take the last one's. A row's sequence is the number
// of those that begin at or before it: counted by a warp, 32 offsets at a time, because a search's steps would each wait
// for memory.
__device__ inline void FindBounds(const DeviceRows& sets, int first, int in_use, Bounds& bounds) {
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x;
    int mine = 0;  // of row `lane`
    for (int base = 0; base < sets.max_sequences; base += 32) {
      const int offset = base + lane < sets.max_sequences ? sets.offsets[base + lane] : 0x7FFFFFFF;
#pragma unroll
      for (int f = 0; f < kFrames; ++f) {
        const int begun = __popc(__ballot_sync(0xFFFFFFFF, offset <= min(first + f, in_use - 1)));
        if (lane == f) mine += begun;
      }
    }
    if (lane < kFrames) bounds.begin[lane] = sets.offsets[mine - 1], bounds.end[lane] = sets.offsets[mine];
  }
  __syncthreads();
}

// kTaps 0: any number, any width; otherwise D is even and at most two channels a thread. Weights are loaded while the
// kernel before ends, frames while the bounds are looked for.
template <typename T, int kTaps>
__global__ void __launch_bounds__(256) DepthwiseKernel(const T* g, DepthwiseParams p, DeviceRows sets, int rows,
                                                       const int32_t* count, int D, T* out) {
  extern __shared__ float sums[];  // [kFrames, D]
  __shared__ Bounds bounds;
  const int first = static_cast<int>(blockIdx.x) * kFrames;
  if constexpr (kTaps > 0) {
    const int d = 2 * static_cast<int>(threadIdx.x);
    Taps<kTaps> weights;
    Window<T, kTaps> window;
    if (d < D) weights.Load(p, d, D);
    WaitForPreviousKernel();
    LetNextKernelStart();
    if (d < D) window.Load(g, first, p.left, rows, d, D);
    const int in_use = min(rows, *count);
    if (first >= in_use) return;
    FindBounds(sets, first, in_use, bounds);
    if (d < D) Convolve(window, weights, bounds, first, p.left, d, D, sums);
  } else {
    WaitForPreviousKernel();
    LetNextKernelStart();
    const int in_use = min(rows, *count);
    if (first >= in_use) return;
    FindBounds(sets, first, in_use, bounds);
    for (int d = threadIdx.x; d < D; d += blockDim.x) ConvolveAny(g, p, bounds, first, d, D, sums);
  }
  __syncthreads();
  const int valid = min(kFrames, min(rows, *count) - first);
  for (int f = threadIdx.x / 32; f < valid; f += blockDim.x / 32) {
    FinishRow(p, sums + f * D, D, out + int64_t{first + f} * D);
  }
}

template <typename T>
auto KernelFor(int num_taps, int64_t D) {
  if (D % 2 != 0 || D > 512) return DepthwiseKernel<T, 0>;
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
                          static_cast<uint32_t>(kFrames * D * sizeof(float)),
                          /*cluster=*/1,
                          /*dependent=*/true};
  return WithType(type, [&](auto t) -> Status {
    using T = decltype(t);
    const auto kernel = KernelFor<T>(params.num_taps, D);
    if (shape.shared_bytes > 48 * 1024) TING_RETURN_IF_ERROR(AllowShared(kernel, shape.shared_bytes));
    return Launch(kernel, shape, stream, static_cast<const T*>(g), params, rows, static_cast<int>(range.rows), range.count,
                  static_cast<int>(D), static_cast<T*>(out));
  });
}

}  // namespace ting::cuda
