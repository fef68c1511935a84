// src/kernels/cuda/position_table.cu
// SPDX-License-Identifier: Apache-2.0
#include "base/return_if_error.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/position_keys.h"

namespace ting::cuda {
namespace {

// One block a position: PE into shared memory, then a thread a column of P, then a warp a head. Runs once a table.
template <typename T>
__global__ void PositionTableKernel(const float* transposed, const float* key_bias, const float* frequencies, int D,
                                    int heads, T* keys, float* bias) {
  extern __shared__ float shared[];
  float *encoding = shared, *key = shared + D;
  const int64_t position = blockIdx.x;
  for (int i = threadIdx.x; i < D; i += blockDim.x) {
    const float angle = static_cast<float>(position) * frequencies[i / 2];
    encoding[i] = i % 2 == 0 ? sinf(angle) : cosf(angle);
  }
  __syncthreads();
  for (int d = threadIdx.x; d < D; d += blockDim.x) {
    float sum = 0;
    for (int c = 0; c < D; ++c) sum += encoding[c] * transposed[int64_t{c} * D + d];
    key[d] = sum;
    keys[position * D + d] = FromFloat<T>(sum);
  }
  __syncthreads();
  const int width = D / heads;
  for (int h = threadIdx.x / 32; h < heads; h += blockDim.x / 32) {
    float sum = 0;
    for (int i = threadIdx.x % 32; i < width; i += 32) sum += key_bias[h * width + i] * key[h * width + i];
    sum = WarpSum(sum);
    if (threadIdx.x % 32 == 0) bias[position * heads + h] = sum;
  }
}

}  // namespace

Status MakePositionTable(DType type, const float* transposed, const float* key_bias, const float* frequencies, int64_t D,
                         int heads, int64_t count, void* keys, float* bias, cudaStream_t stream) {
  const LaunchShape shape{dim3(static_cast<unsigned>(count)), dim3(256), static_cast<uint32_t>(2 * D * sizeof(float))};
  const auto launch = [&](auto t) {
    using T = decltype(t);
    return Launch(PositionTableKernel<T>, shape, stream, transposed, key_bias, frequencies, static_cast<int>(D), heads,
                  static_cast<T*>(keys), bias);
  };
  if (type == DType::kF16) return launch(__half{});
  if (type == DType::kBF16) return launch(__nv_bfloat16{});
  return launch(float{});
}

}  // namespace ting::cuda
