// src/kernels/cuda/depthwise.cu
// SPDX-License-Identifier: Apache-2.0
//
// The depthwise convolution over time with its norm and activation, in two kernels. DepthwiseWindowKernel, for the
// usual numbers of taps and channels, keeps everything in registers (row_convolution.cuh); DepthwiseAnyKernel takes the
// rest.
#include <algorithm>

#include "base/return_if_error.h"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_convolution.cuh"
#include "kernels/cuda/row_kernels.h"
#include "kernels/cuda/row_math.cuh"

namespace ting::cuda {
namespace {

constexpr int kFrames = 8;  // of a block of DepthwiseAnyKernel

struct Bounds {  // of the sequence of each row of the block
  int begin[kFrames], end[kFrames];
};

// A channel at a time.
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
        v = ToFloat(FromFloat<T>(p.edge[d]));  // as a row would be
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
// of those that begin at or before it: counted by a warp, 32 offsets at a time, because a search's steps would each
// wait for memory.
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

// A block takes kFrames rows and all channels: sums first, then a warp a row.
template <typename T>
__global__ void __launch_bounds__(256)
    DepthwiseAnyKernel(const T* g, DepthwiseParams p, DeviceRows sets, int rows, const int32_t* count, int D, T* out) {
  extern __shared__ float sums[];  // [kFrames, D]
  __shared__ Bounds bounds;
  const int first = static_cast<int>(blockIdx.x) * kFrames;
  WaitForPreviousKernel();
  const int in_use = min(rows, *count);
  if (first >= in_use) return;
  FindBounds(sets, first, in_use, bounds);
  for (int d = threadIdx.x; d < D; d += blockDim.x) ConvolveAny(g, p, bounds, first, d, D, sums);
  __syncthreads();
  const int valid = min(kFrames, in_use - first);
  for (int f = threadIdx.x / 32; f < valid; f += blockDim.x / 32) {
    FinishRow(p, sums + f * D, D, out + int64_t{first + f} * D);
  }
}

// A block takes kWindow rows, a thread two channels of them: D is 64 * kWarps. Weights are loaded while the kernel
// before ends.
template <typename T, int kTaps, int kWindow, int kWarps>
__global__ void __launch_bounds__(32 * kWarps)
    DepthwiseWindowKernel(const T* g, RowConvolution c, int rows, const int32_t* count, T* out) {
  constexpr int kD = 64 * kWarps;
  __shared__ float4 partial[2 * kWindow * kWarps / 4];
  const int first = static_cast<int>(blockIdx.x) * kWindow, channel = 2 * static_cast<int>(threadIdx.x);
  ConvolutionWeights<T, kTaps> weights;
  weights.Load(c, kD, channel);
  WaitForPreviousKernel();
  const int in_use = min(rows, *count);
  float2 sums[kWindow];
  ConvolveRows(c, weights, g, rows, kD, channel, first, sums);
  if (c.gamma != nullptr) {
    const auto meet = [] { __syncthreads(); };
    const RowsNorm<kWarps, kWindow, decltype(meet)> norm(reinterpret_cast<float*>(partial), threadIdx.x / 32, meet);
    norm.Apply(sums, LoadFloats(c.gamma + channel), LoadFloats(c.beta + channel), c.eps);
  }
  ActivateRows(c.activation, sums);
  T* target = out + int64_t{first} * kD + channel;
#pragma unroll
  for (int f = 0; f < kWindow; ++f) {
    if (first + f < in_use) *reinterpret_cast<ChannelPair<T>*>(target + f * kD) = ToPair<T>(sums[f]);
  }
}

template <typename T>
using WindowKernel = void (*)(const T*, RowConvolution, int, const int32_t*, T*);

template <typename T, int kTaps, int kWindow>
WindowKernel<T> OfWidth(int64_t D) {
  if (D == 256) return DepthwiseWindowKernel<T, kTaps, kWindow, 4>;
  if (D == 512) return DepthwiseWindowKernel<T, kTaps, kWindow, 8>;
  return nullptr;
}
template <typename T, int kWindow>
WindowKernel<T> OfTaps(int num_taps, int64_t D) {
  if (num_taps == 7) return OfWidth<T, 7, kWindow>(D);
  if (num_taps == 8) return OfWidth<T, 8, kWindow>(D);
  if (num_taps == 15) return OfWidth<T, 15, kWindow>(D);
  return nullptr;
}
// Null where DepthwiseAnyKernel is needed.
template <typename T>
WindowKernel<T> FindWindowKernel(const DepthwiseParams& params, int64_t D, int window) {
  if (params.scale != nullptr) return nullptr;
  if (window == 4) return OfTaps<T, 4>(params.num_taps, D);
  if (window == 8) return OfTaps<T, 8>(params.num_taps, D);
  if (window == 16) return OfTaps<T, 16>(params.num_taps, D);
  return nullptr;
}

LaunchShape ShapeOf(int64_t rows, int window, int64_t threads, int64_t shared_bytes) {
  return {dim3(static_cast<unsigned>((rows + window - 1) / window)), dim3(static_cast<unsigned>(threads)),
          static_cast<uint32_t>(shared_bytes), /*cluster=*/1, /*dependent=*/true};
}

RowConvolution ConvolutionOf(const DepthwiseParams& params, const DeviceRows& rows) {
  RowConvolution c;
  c.taps = params.taps, c.bias = params.bias, c.edge = params.edge;
  c.gamma = params.norm.gamma, c.beta = params.norm.beta, c.eps = params.norm.eps;
  c.num_taps = params.num_taps, c.left = params.left, c.activation = params.activation;
  c.offsets = rows.offsets, c.sequences = rows.max_sequences;
  return c;
}

}  // namespace

Status DepthwiseRows(DType type, const void* g, const DepthwiseParams& params, const DeviceRows& rows, RowRange range,
                     int64_t D, void* out, cudaStream_t stream, int window) {
  if (range.rows == 0) return Status();
  return WithType(type, [&](auto t) -> Status {
    using T = decltype(t);
    const auto* source = static_cast<const T*>(g);
    auto* target = static_cast<T*>(out);
    const int count = static_cast<int>(range.rows);
    if (const WindowKernel<T> kernel = FindWindowKernel<T>(params, D, window)) {
      return Launch(kernel, ShapeOf(range.rows, window, D / 2, 0), stream, source, ConvolutionOf(params, rows), count,
                    range.count, target);
    }
    const LaunchShape shape = ShapeOf(range.rows, kFrames, std::min<int64_t>(256, (D + 31) / 32 * 32),
                                      kFrames * D * static_cast<int64_t>(sizeof(float)));
    if (shape.shared_bytes > 48 * 1024) TING_RETURN_IF_ERROR(AllowShared(DepthwiseAnyKernel<T>, shape.shared_bytes));
    return Launch(DepthwiseAnyKernel<T>, shape, stream, source, params, rows, count, range.count, static_cast<int>(D),
                  target);
  });
}

Status DepthwiseRows(DType type, const void* g, const DepthwiseParams& params, const DeviceRows& rows, RowRange range,
                     int64_t D, void* out, cudaStream_t stream) {
  return DepthwiseRows(type, g, params, rows, range, D, out, stream, range.rows < 4096 ? 4 : 8);
}

}  // namespace ting::cuda
