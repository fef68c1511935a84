// tests/kernels/cuda/gpu_test.h
// SPDX-License-Identifier: Apache-2.0
//
// What tests of CUDA kernels share: skipping visibly, arrays on the device that notice writes beside them, poison,
// errors.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

// "" or why there is no GPU to test on.
inline const char* WhyNoGpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? "" : "no device";
}
#define TING_SKIP_WITHOUT_GPU() \
  if (const char* why = ::ting::cuda::WhyNoGpu(); *why != '\0') GTEST_SKIP() << "needs a GPU: " << why

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess) << cudaGetErrorString(cudaGetLastError())
#define EXPECT_OK(status_expression)                      \
  do {                                                    \
    const ::ting::Status ok_status = (status_expression); \
    EXPECT_TRUE(ok_status.ok()) << ok_status.ToString();  \
  } while (false)

template <typename T>
constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, __half>) return DType::kF16;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return DType::kBF16;
  return DType::kF32;
}
inline float HostFloat(float v) { return v; }
inline float HostFloat(__half v) { return __half2float(v); }
inline float HostFloat(__nv_bfloat16 v) { return __bfloat162float(v); }
// Once for all: on the host the conversion costs more than a product.
template <typename T>
std::vector<float> Floats(const std::vector<T>& values) {
  std::vector<float> floats(values.size());
  for (size_t i = 0; i < values.size(); ++i) floats[i] = HostFloat(values[i]);
  return floats;
}
template <typename T>
T Rounded(float v) {
  if constexpr (std::is_same_v<T, __half>) return __float2half_rn(v);
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return __float2bfloat16_rn(v);
  return static_cast<T>(v);
}

// All bits set: NaN in every floating-point type.
template <typename T>
T Poison() {
  T value;
  memset(static_cast<void*>(&value), 0xFF, sizeof value);
  return value;
}
template <typename T>
bool SameBits(const T& a, const T& b) {
  return memcmp(&a, &b, sizeof a) == 0;
}

// `size` elements on the device between two edges whose bytes must stay as they are.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : DeviceArray(std::vector<T>(size, Poison<T>())) {}
  explicit DeviceArray(const std::vector<T>& values) : size_(values.size()) {
    std::vector<unsigned char> bytes(Bytes() + 2 * kEdge, kEdgeByte);
    if (size_ > 0) memcpy(bytes.data() + kEdge, values.data(), Bytes());
    EXPECT_CUDA(cudaMalloc(&base_, bytes.size()));
    EXPECT_CUDA(cudaMemcpy(base_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    EXPECT_CUDA(cudaStreamSynchronize(nullptr));  // other streams do not wait for the copy's end
  }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(base_); }

  T* data() const { return reinterpret_cast<T*>(static_cast<unsigned char*>(base_) + kEdge); }

  // Waits for the device; fails the test if an edge was written.
  std::vector<T> Download() const {
    std::vector<unsigned char> bytes(Bytes() + 2 * kEdge);
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_CUDA(cudaMemcpy(bytes.data(), base_, bytes.size(), cudaMemcpyDeviceToHost));
    size_t damaged = 0;
    for (size_t i = 0; i < kEdge; ++i) {
      damaged += bytes[i] != kEdgeByte;
      damaged += bytes[kEdge + Bytes() + i] != kEdgeByte;
    }
    EXPECT_EQ(damaged, 0U) << "bytes beside the array were written";
    std::vector<T> values(size_);
    if (size_ > 0) memcpy(values.data(), bytes.data() + kEdge, Bytes());
    return values;
  }

 private:
  static constexpr size_t kEdge = 1024;
  static constexpr unsigned char kEdgeByte = 0xFF;  // NaNs: reading beyond the array shows as well
  size_t Bytes() const { return size_ * sizeof(T); }
  size_t size_;
  void* base_ = nullptr;
};

// ||actual - expected|| / ||expected||; infinite if anything is not finite, or if something should be 0 and is not.
template <typename T>
double RelativeError(const T* actual, const double* expected, int count) {
  double error = 0, norm = 0;
  for (int i = 0; i < count; ++i) {
    const double difference = HostFloat(actual[i]) - expected[i];
    error += difference * difference;
    norm += expected[i] * expected[i];
  }
  if (!std::isfinite(error)) return INFINITY;
  if (norm == 0) return error == 0 ? 0 : INFINITY;
  return std::sqrt(error / norm);
}

}  // namespace ting::cuda
