// src/kernels/cuda/row_kernels.cu
// SPDX-License-Identifier: Apache-2.0
//
// One warp a row: rows are 256 to 2048 wide, a batch has hundreds to thousands, and a warp's sum needs no barrier.
#include "kernels/cuda/row_kernels.h"

#include <algorithm>
#include <cmath>

#include "base/return_if_error.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_math.cuh"

namespace ting::cuda {
namespace {

constexpr int kWarps = 8;  // rows a block

__device__ inline int64_t WarpRow() { return int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; }
__device__ inline bool InUse(int64_t row, int64_t rows, const int32_t* count) {
  return row < (count == nullptr ? rows : min(rows, int64_t{*count}));
}
LaunchShape RowLaunch(int64_t rows, uint32_t shared_bytes = 0) {
  return {dim3(static_cast<unsigned>((rows + kWarps - 1) / kWarps)), dim3(kWarps * 32), shared_bytes};
}

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

__device__ inline float PositionValue(int64_t position, int i, const float* frequencies) {
  const float angle = static_cast<float>(position) * frequencies[i / 2];
  return i % 2 == 0 ? sinf(angle) : cosf(angle);
}

__global__ void AddPositionsKernel(const float* x, const float* frequencies, DeviceRows sets, int64_t rows,
                                   const int32_t* count, int D, float* y) {
  const int64_t row = WarpRow();
  if (!InUse(row, rows, count)) return;
  const int64_t position = row - sets.offsets[SequenceOf(sets.offsets, sets.max_sequences, row)];
  for (int i = threadIdx.x % 32; i < D; i += 32) y[row * D + i] = x[row * D + i] + PositionValue(position, i, frequencies);
}

__global__ void EmbedKernel(const float* table, int64_t V, const int32_t* tokens, const int32_t* positions,
                            const float* frequencies, float scale, int64_t rows, const int32_t* count, int D,
                            float* y) {
  const int64_t row = WarpRow();
  if (!InUse(row, rows, count)) return;
  const int64_t token = tokens[row] < 0 || tokens[row] >= V ? 0 : tokens[row];
  for (int i = threadIdx.x % 32; i < D; i += 32) {
    y[row * D + i] = table[token * D + i] * scale + PositionValue(positions[row], i, frequencies);
  }
}

// One warp; lanes take sequences in turn, and each turn's lengths are summed over the lanes.
__global__ void StageOffsetsKernel(const int32_t* offsets, int sequences, int kernel, int stride, int32_t* out) {
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
  return WithType(type, [&](auto t) {
    using T = decltype(t);
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

Status AddPositions(const float* x, const float* frequencies, const DeviceRows& rows, RowRange range, int64_t D, float* y,
                    cudaStream_t stream) {
  if (range.rows == 0) return Status();
  return Launch(AddPositionsKernel, RowLaunch(range.rows), stream, x, frequencies, rows, range.rows, range.count,
                static_cast<int>(D), y);
}

Status EmbedRows(const float* table, int64_t V, const int32_t* tokens, const int32_t* positions,
                 const float* frequencies, float scale, RowRange range, int64_t D, float* y, cudaStream_t stream) {
  if (range.rows == 0) return Status();
  return Launch(EmbedKernel, RowLaunch(range.rows), stream, table, V, tokens, positions, frequencies, scale,
                range.rows, range.count, static_cast<int>(D), y);
}

Status StageOffsets(const int32_t* offsets, int sequences, int kernel, int stride, int32_t* out, cudaStream_t stream) {
  return Launch(StageOffsetsKernel, LaunchShape{dim3(1), dim3(32)}, stream, offsets, sequences, kernel, stride, out);
}

}  // namespace ting::cuda
