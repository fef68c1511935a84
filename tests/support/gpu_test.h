// tests/support/gpu_test.h
// SPDX-License-Identifier: Apache-2.0
//
// What tests that need a GPU share: skipping visibly, errors, numbers of 16-bit types, poison, and arrays on the device
// that notice writes beside them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

// "" or why there is no GPU to test on; the second: for kernels of Hopper.
inline std::string WhyNoGpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return std::string("needs a GPU: ") + cudaGetErrorString(error);
  return count > 0 ? "" : "needs a GPU: there is none";
}
inline std::string WhyNoHopper() {
  if (std::string why = WhyNoGpu(); !why.empty()) return why;
  int major = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  return major == 9 ? "" : "needs a GPU of compute capability 9.0";
}
#define TING_SKIP_WITHOUT_GPU() \
  if (const std::string why = ::ting::cuda::WhyNoGpu(); !why.empty()) GTEST_SKIP() << why
#define TING_SKIP_WITHOUT_HOPPER() \
  if (const std::string why = ::ting::cuda::WhyNoHopper(); !why.empty()) GTEST_SKIP() << why

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess) << cudaGetErrorString(cudaGetLastError())
#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess) << cudaGetErrorString(cudaGetLastError())
#define EXPECT_OK(status_expression)                      \
  do {                                                    \
    const ::ting::Status ok_status = (status_expression); \
    EXPECT_TRUE(ok_status.ok()) << ok_status.ToString();  \
  } while (false)

// ---- numbers ----

template <typename T>
constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, __half>) return DType::kF16;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return DType::kBF16;
  return DType::kF32;
}
template <typename T>
T Rounded(float v) {
  if constexpr (std::is_same_v<T, __half>) return __float2half_rn(v);
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return __float2bfloat16_rn(v);
  return static_cast<T>(v);
}
template <typename T>
std::vector<T> RoundedAll(const std::vector<float>& values) {
  std::vector<T> result(values.size());
  std::transform(values.begin(), values.end(), result.begin(), [](float v) { return Rounded<T>(v); });
  return result;
}
// Half a unit in the last place, relative.
template <typename T>
double RoundingError() {
  if (std::is_same_v<T, __half>) return 0x1p-11;
  return std::is_same_v<T, __nv_bfloat16> ? 0x1p-8 : 0x1p-24;
}
inline double HostDouble(float v) { return v; }
inline double HostDouble(__half v) { return __half2float(v); }
inline double HostDouble(__nv_bfloat16 v) { return __bfloat162float(v); }
// Once for all: on the host the conversion costs more than a product.
template <typename T>
std::vector<float> Floats(const std::vector<T>& values) {
  std::vector<float> floats(values.size());
  std::transform(values.begin(), values.end(), floats.begin(), [](T v) { return static_cast<float>(HostDouble(v)); });
  return floats;
}

template <typename T>
bool SameBits(const T& a, const T& b) {
  return memcmp(&a, &b, sizeof a) == 0;
}
// All bits set, as a DeviceArray starts: NaN in every floating-point type.
template <typename T>
T Poison() {
  T value;
  memset(static_cast<void*>(&value), 0xFF, sizeof value);
  return value;
}
template <typename T>
bool IsPoison(const T& value) {
  return SameBits(value, Poison<T>());
}

// ||actual - expected|| / ||expected||; infinite if anything is not finite, or if something should be 0 and is not.
template <typename T>
double RelativeError(const T* actual, const double* expected, int count) {
  double error = 0, norm = 0;
  for (int i = 0; i < count; ++i) {
    const double difference = HostDouble(actual[i]) - expected[i];
    error += difference * difference;
    norm += expected[i] * expected[i];
  }
  if (!std::isfinite(error)) return INFINITY;
  if (norm == 0) return error == 0 ? 0 : INFINITY;
  return std::sqrt(error / norm);
}

// ---- arrays ----

// `size` elements on the device, poison at first, between two edges of poison, so that reading beyond the array shows
// as well. A test fails if an edge has been written when the array is downloaded or ends.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    EXPECT_CUDA(cudaMalloc(&base_, Bytes() + 2 * kEdge));
    Fill(base_, Bytes() + 2 * kEdge);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { Upload(values); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() {
    CheckEdges();
    cudaFree(base_);
  }

  T* data() const { return reinterpret_cast<T*>(static_cast<unsigned char*>(base_) + kEdge); }
  size_t size() const { return size_; }

  void Clear() { Fill(data(), Bytes()); }  // poison again
  void Upload(const std::vector<T>& values) {
    EXPECT_EQ(values.size(), size_);
    EXPECT_CUDA(cudaMemcpy(data(), values.data(), Bytes(), cudaMemcpyHostToDevice));
    EXPECT_CUDA(cudaStreamSynchronize(nullptr));  // the call may return before its end, and other streams do not wait
  }
  // Waits for the device.
  std::vector<T> Download() const {
    EXPECT_CUDA(cudaDeviceSynchronize());
    CheckEdges();
    std::vector<T> values(size_);
    EXPECT_CUDA(cudaMemcpy(values.data(), data(), Bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  static constexpr size_t kEdge = 1024;
  static constexpr unsigned char kPoisonByte = 0xFF;  // of Poison()
  size_t Bytes() const { return size_ * sizeof(T); }
  static void Fill(void* data, size_t bytes) {
    EXPECT_CUDA(cudaMemset(data, kPoisonByte, bytes));
    EXPECT_CUDA(cudaStreamSynchronize(nullptr));  // as for Upload
  }
  void CheckEdges() const {
    unsigned char before[kEdge], behind[kEdge];
    EXPECT_CUDA(cudaMemcpy(before, base_, kEdge, cudaMemcpyDeviceToHost));
    EXPECT_CUDA(cudaMemcpy(behind, data() + size_, kEdge, cudaMemcpyDeviceToHost));
    const auto clean = [](unsigned char byte) { return byte == kPoisonByte; };
    EXPECT_TRUE(std::all_of(before, before + kEdge, clean)) << "bytes before the array were written";
    EXPECT_TRUE(std::all_of(behind, behind + kEdge, clean)) << "bytes behind the array were written";
  }

  size_t size_;
  void* base_ = nullptr;
};

}  // namespace ting::cuda
