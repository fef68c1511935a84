// src/kernels/cuda/row_kernels.cu
// SPDX-License-Identifier: Apache-2.0
//
// One warp a row: rows are 256 to 2048 wide, a batch has hundreds to thousands, and a warp's sum needs no barrier.
// What stands between the kernels of a Hopper step (norms, embedding, offsets) is launched dependently and is short: at
// batch 1 a launch and every fetch of code that is not in the cache cost as much as the work.
#include <algorithm>
#include <cmath>

#include "base/return_if_error.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_kernels.h"
#include "kernels/cuda/row_math.cuh"

namespace ting::cuda {
namespace {

constexpr int kMaxWarps = 8;  // rows a block

__device__ inline int64_t WarpRow() { return int64_t{blockIdx.x} * (blockDim.x / 32) + threadIdx.x / 32; }
__device__ inline bool InUse(int64_t row, int64_t rows, const int32_t* count) {
  return row < (count == nullptr ? rows : min(rows, int64_t{*count}));
}
LaunchShape RowLaunch(int64_t rows, bool dependent = false, int warps = kMaxWarps) {
  return {dim3(static_cast<unsigned>((rows + warps - 1) / warps)), dim3(static_cast<unsigned>(warps * 32)), 0,
          /*cluster=*/1, dependent};
}

template <typename T>
__device__ inline void StoreFour(T* out, const float4& v) {
  if constexpr (sizeof(T) == 4) {
    *reinterpret_cast<float4*>(out) = v;
  } else {
    *reinterpret_cast<uint2*>(out) = make_uint2(Pack2<T>(v.x, v.y), Pack2<T>(v.z, v.w));
  }
}

// A row of 128 * kFours elements, in registers; 16-byte aligned rows.
template <typename T, int kFours>
__global__ void NormalizeFoursKernel(const float* x, DeviceNorm norm, int64_t rows, const int32_t* count, T* out) {
  constexpr int kD = 128 * kFours;
  const int column = static_cast<int>(threadIdx.x) % 32 * 4;
  float4 gamma[kFours], beta[kFours], v[kFours];
#pragma unroll
  for (int i = 0; i < kFours; ++i) {
    gamma[i] = *reinterpret_cast<const float4*>(norm.gamma + column + 128 * i);
    beta[i] = *reinterpret_cast<const float4*>(norm.beta + column + 128 * i);
  }
  const int64_t row = WarpRow();
  WaitForPreviousKernel();
  if (!InUse(row, rows, count)) return;
  float sum = 0, squares = 0;
#pragma unroll
  for (int i = 0; i < kFours; ++i) {
    v[i] = *reinterpret_cast<const float4*>(x + row * kD + column + 128 * i);
    sum += (v[i].x + v[i].y) + (v[i].z + v[i].w);
  }
  const float mean = WarpSum(sum) * (1.0F / kD);
#pragma unroll
  for (int i = 0; i < kFours; ++i) {
    v[i].x -= mean, v[i].y -= mean, v[i].z -= mean, v[i].w -= mean;
    squares += (v[i].x * v[i].x + v[i].y * v[i].y) + (v[i].z * v[i].z + v[i].w * v[i].w);
  }
  const float scale = rsqrtf(WarpSum(squares) * (1.0F / kD) + norm.eps);
#pragma unroll
  for (int i = 0; i < kFours; ++i) {
    const float4 y = {fmaf(v[i].x * scale, gamma[i].x, beta[i].x), fmaf(v[i].y * scale, gamma[i].y, beta[i].y),
                      fmaf(v[i].z * scale, gamma[i].z, beta[i].z), fmaf(v[i].w * scale, gamma[i].w, beta[i].w)};
    StoreFour(out + row * kD + column + 128 * i, y);
  }
}

// Any width, with or without a norm.
template <typename T>
__global__ void NormalizeKernel(const float* x, DeviceNorm norm, int64_t rows, const int32_t* count, int D, T* out) {
  const int64_t row = WarpRow();
  if (!InUse(row, rows, count)) return;
  const float* in = x + row * D;
  float2 moments{0, 1};
  if (norm.gamma != nullptr) moments = RowMoments([&](int i) { return in[i]; }, D, norm.eps);
  for (int i = threadIdx.x % 32; i < D; i += 32) {
    const float v = (in[i] - moments.x) * moments.y;
    out[row * D + i] = FromFloat<T>(norm.gamma != nullptr ? v * norm.gamma[i] + norm.beta[i] : in[i]);
  }
}

template <typename T, Activation kActivation>
__global__ void ActivateKernel(const float* x, const float* bias, int64_t rows, const int32_t* count, int N, T* out) {
  const int64_t row = WarpRow();
  if (!InUse(row, rows, count)) return;
  for (int i = threadIdx.x % 32; i < N; i += 32) {
    out[row * N + i] = FromFloat<T>(Activate<kActivation>(x[row * N + i] + bias[i]));
  }
}

template <typename T>
__global__ void GluKernel(const float* x, const float* bias, int64_t rows, const int32_t* count, int D, T* out) {
  const int64_t row = WarpRow();
  if (!InUse(row, rows, count)) return;
  const float* in = x + row * 2 * D;
  for (int i = threadIdx.x % 32; i < D; i += 32) {
    out[row * D + i] = FromFloat<T>((in[i] + bias[i]) * Sigmoid(in[D + i] + bias[D + i]));
  }
}

// A lane's values of x, bias and residual are added once for the sum and again for each pass of the norm: cheaper than
// the registers or the shared memory to keep them; they come from the first-level cache.
__global__ void FinishKernel(const float* x, const float* bias, const float* residual, float scale, DeviceNorm post,
                             int64_t rows, const int32_t* count, int D, float* out) {
  const int64_t row = WarpRow();
  if (!InUse(row, rows, count)) return;
  const auto value = [&](int i) {
    const float f = x[row * D + i] + bias[i];
    return residual == nullptr ? scale * f : residual[row * D + i] + scale * f;
  };
  float2 moments{0, 1};
  if (post.gamma != nullptr) moments = RowMoments(value, D, post.eps);
  for (int i = threadIdx.x % 32; i < D; i += 32) {
    const float v = value(i);
    out[row * D + i] = post.gamma == nullptr ? v : (v - moments.x) * moments.y * post.gamma[i] + post.beta[i];
  }
}

__global__ void AddKernel(const float* a, const float* b, float scale, int64_t rows, const int32_t* count, int D,
                          float* y) {
  const int64_t row = WarpRow();
  if (!InUse(row, rows, count)) return;
  for (int i = threadIdx.x % 32; i < D; i += 32) y[row * D + i] = a[row * D + i] + scale * b[row * D + i];
}

// Elements 2 i and 2 i + 1 of PE(position).
__device__ inline float2 PositionPair(int64_t position, int i, const float* frequencies) {
  float2 pair;
  sincosf(static_cast<float>(position) * frequencies[i], &pair.x, &pair.y);
  return pair;
}

// y = values(i) + PE(position) for the elements of a row, by a warp, two at a time: they share an angle.
template <typename Values>
__device__ inline void AddPosition(const Values& values, int64_t position, const float* frequencies, int D, float* y) {
  for (int i = threadIdx.x % 32; 2 * i < D; i += 32) {
    const float2 pair = PositionPair(position, i, frequencies);
    y[2 * i] = values(2 * i) + pair.x;
    if (2 * i + 1 < D) y[2 * i + 1] = values(2 * i + 1) + pair.y;
  }
}

__global__ void AddPositionsKernel(const float* x, const float* frequencies, DeviceRows sets, int64_t rows,
                                   const int32_t* count, int D, float* y) {
  const int64_t row = WarpRow();
  if (!InUse(row, rows, count)) return;
  const int64_t position = row - sets.offsets[SequenceOf(sets.offsets, sets.max_sequences, row)];
  AddPosition([&](int i) { return x[row * D + i]; }, position, frequencies, D, y + row * D);
}

__device__ inline const float* EmbeddingOf(const float* table, int64_t V, int32_t token, int D) {
  return table + (token < 0 || token >= V ? 0 : token) * int64_t{D};
}

// A row of 128 * kFours elements; 16-byte aligned rows.
template <int kFours>
__global__ void EmbedFoursKernel(const float* table, int64_t V, const int32_t* tokens, const int32_t* positions,
                                 const float* frequencies, float scale, int64_t rows, const int32_t* count, float* y) {
  constexpr int kD = 128 * kFours;
  const int column = static_cast<int>(threadIdx.x) % 32 * 4;
  float2 frequency[kFours];
#pragma unroll
  for (int i = 0; i < kFours; ++i) {
    frequency[i] = *reinterpret_cast<const float2*>(frequencies + column / 2 + 64 * i);
  }
  const int64_t row = WarpRow();
  WaitForPreviousKernel();
  if (row >= rows) return;
  const int32_t token = tokens[row], position = positions[row];  // they have `rows`: asked for beside the count
  if (!InUse(row, rows, count)) return;
  const float* values = EmbeddingOf(table, V, token, kD);
  float4 v[kFours];
#pragma unroll
  for (int i = 0; i < kFours; ++i) v[i] = *reinterpret_cast<const float4*>(values + column + 128 * i);
#pragma unroll 1
  for (int i = 0; i < kFours; ++i) {
    float2 first, second;
    sincosf(static_cast<float>(position) * frequency[0].x, &first.x, &first.y);
    sincosf(static_cast<float>(position) * frequency[0].y, &second.x, &second.y);
    const float4 sum = {v[0].x * scale + first.x, v[0].y * scale + first.y, v[0].z * scale + second.x,
                        v[0].w * scale + second.y};
    *reinterpret_cast<float4*>(y + row * kD + column + 128 * i) = sum;
#pragma unroll
    for (int j = 0; j + 1 < kFours; ++j) v[j] = v[j + 1], frequency[j] = frequency[j + 1];  // keeps the code a loop
  }
}

// Any width.
__global__ void EmbedKernel(const float* table, int64_t V, const int32_t* tokens, const int32_t* positions,
                            const float* frequencies, float scale, int64_t rows, const int32_t* count, int D,
                            float* y) {
  const int64_t row = WarpRow();
  WaitForPreviousKernel();
  if (!InUse(row, rows, count)) return;
  const float* values = EmbeddingOf(table, V, tokens[row], D);
  AddPosition([&](int i) { return values[i] * scale; }, positions[row], frequencies, D, y + row * D);
}

// One warp; lanes take sequences in turn, and each turn's lengths are summed over the lanes.
__global__ void StageOffsetsKernel(const int32_t* offsets, int sequences, int kernel, int stride, int32_t* out) {
  WaitForPreviousKernel();
  const int lane = threadIdx.x;
  int total = 0;
  if (lane == 0) out[0] = 0;
  for (int first = 0; first < sequences; first += 32) {
    const int b = first + lane;
    const int frames = b < sequences ? offsets[b + 1] - offsets[b] : 0;
    int sum = frames < kernel ? 0 : (frames - kernel) / stride + 1;
    for (int step = 1; step < 32; step *= 2) {
      const int before = __shfl_up_sync(0xFFFFFFFF, sum, step);
      if (lane >= step) sum += before;
    }
    if (b < sequences) out[b + 1] = total + sum;
    total += __shfl_sync(0xFFFFFFFF, sum, 31);
  }
}

}  // namespace

Status NormalizeRows(DType type, const float* x, const DeviceNorm& norm, RowRange range, int64_t D, void* out,
                     cudaStream_t stream) {
  if (range.rows == 0) return Status();
  const bool fours = norm.gamma != nullptr && (D == 256 || D == 512) && AlignedTo16(x) && AlignedTo16(out);
  return WithType(type, [&](auto t) {
    using T = decltype(t);
    if (fours) {
      return Launch(D == 256 ? NormalizeFoursKernel<T, 2> : NormalizeFoursKernel<T, 4>,
                    RowLaunch(range.rows, /*dependent=*/true), stream, x, norm, range.rows, range.count,
                    static_cast<T*>(out));
    }
    return Launch(NormalizeKernel<T>, RowLaunch(range.rows), stream, x, norm, range.rows, range.count,
                  static_cast<int>(D), static_cast<T*>(out));
  });
}

Status ActivateRows(DType type, const float* x, const float* bias, Activation activation, RowRange range, int64_t N,
                    void* out, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  return WithType(type, [&](auto t) {
    using T = decltype(t);
    auto* kernel = activation == Activation::kRelu    ? ActivateKernel<T, Activation::kRelu>
                   : activation == Activation::kSwish ? ActivateKernel<T, Activation::kSwish>
                   : activation == Activation::kGelu  ? ActivateKernel<T, Activation::kGelu>
                                                      : ActivateKernel<T, Activation::kNone>;
    return Launch(kernel, RowLaunch(range.rows), stream, x, bias, range.rows, range.count, static_cast<int>(N),
                  static_cast<T*>(out));
  });
}

Status GluRows(DType type, const float* x, const float* bias, RowRange range, int64_t D, void* out,
               cudaStream_t stream) {
  if (range.rows == 0) return Status();
  return WithType(type, [&](auto t) {
    using T = decltype(t);
    return Launch(GluKernel<T>, RowLaunch(range.rows), stream, x, bias, range.rows, range.count, static_cast<int>(D),
                  static_cast<T*>(out));
  });
}

Status FinishRows(const float* x, const float* bias, const float* residual, float scale, const DeviceNorm& post,
                  RowRange range, int64_t D, float* out, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  return Launch(FinishKernel, RowLaunch(range.rows), stream, x, bias, residual, scale, post, range.rows, range.count,
                static_cast<int>(D), out);
}

Status AddRows(const float* a, const float* b, float scale, RowRange range, int64_t D, float* y, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  return Launch(AddKernel, RowLaunch(range.rows), stream, a, b, scale, range.rows, range.count, static_cast<int>(D), y);
}

std::vector<float> PositionFrequencies(int64_t D) {
  const float step = static_cast<float>(-(std::log(10000.0) / static_cast<double>(D)));
  std::vector<float> frequencies;
  for (int64_t i = 0; i < D; i += 2) {
    frequencies.push_back(static_cast<float>(std::exp(static_cast<double>(static_cast<float>(i) * step))));
  }
  return frequencies;
}

Status AddPositions(const float* x, const float* frequencies, const DeviceRows& rows, RowRange range, int64_t D,
                    float* y, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  return Launch(AddPositionsKernel, RowLaunch(range.rows), stream, x, frequencies, rows, range.rows, range.count,
                static_cast<int>(D), y);
}

Status EmbedRows(const float* table, int64_t V, const int32_t* tokens, const int32_t* positions,
                 const float* frequencies, float scale, RowRange range, int64_t D, float* y, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  constexpr int kMultiprocessors = 132;  // about: what follows is a matter of time only
  int warps = 1;  // few with few rows, so that they have more multiprocessors
  while (warps < kMaxWarps && range.rows > warps * kMultiprocessors) warps *= 2;
  const LaunchShape shape = RowLaunch(range.rows, /*dependent=*/true, warps);
  const bool aligned = AlignedTo16(table) && AlignedTo16(y);
  if ((D == 256 || D == 512) && aligned) {
    return Launch(D == 256 ? EmbedFoursKernel<2> : EmbedFoursKernel<4>, shape, stream, table, V, tokens, positions,
                  frequencies, scale, range.rows, range.count, y);
  }
  return Launch(EmbedKernel, shape, stream, table, V, tokens, positions, frequencies, scale, range.rows, range.count,
                static_cast<int>(D), y);
}

Status StageOffsets(const int32_t* offsets, int sequences, int kernel, int stride, int32_t* out, cudaStream_t stream) {
  const LaunchShape shape{dim3(1), dim3(32), 0, 1, /*dependent=*/true};
  return Launch(StageOffsetsKernel, shape, stream, offsets, sequences, kernel, stride, out);
}

}  // namespace ting::cuda
