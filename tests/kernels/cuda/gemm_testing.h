// tests/kernels/cuda/gemm_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// What tests of matrix products and convolutions on the GPU share: skipping visibly, arrays on the device that notice
// writes beside them, seeded values, times by graph replay.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ting/status.h"

namespace ting::cuda {

// "" or why tests that need a GPU of at least that compute capability cannot run.
inline std::string WhyNoGpu(int major) {
  int count = 0, has = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return std::string("needs a GPU: ") + cudaGetErrorString(error);
  if (count == 0) return "needs a GPU: there is none";
  cudaDeviceGetAttribute(&has, cudaDevAttrComputeCapabilityMajor, 0);
  return has >= major ? "" : "needs a GPU of compute capability " + std::to_string(major) + ".0";
}
#define TING_SKIP_WITHOUT_GPU(major) \
  if (const std::string why = ::ting::cuda::WhyNoGpu(major); !why.empty()) GTEST_SKIP() << why

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess) << cudaGetErrorString(cudaGetLastError())
#define EXPECT_OK(expression)                            \
  do {                                                   \
    const ::ting::Status ok_status = (expression);       \
    EXPECT_TRUE(ok_status.ok()) << ok_status.ToString(); \
  } while (false)

inline double HostDouble(float v) { return v; }
inline double HostDouble(__half v) { return __half2float(v); }
inline double HostDouble(__nv_bfloat16 v) { return __bfloat162float(v); }
template <typename T>
T Rounded(float v) {
  if constexpr (std::is_same_v<T, __half>) return __float2half_rn(v);
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return __float2bfloat16_rn(v);
  return static_cast<T>(v);
}
// Half a unit in the last place, relative.
template <typename T>
double RoundingError() {
  if (std::is_same_v<T, __half>) return 0x1p-11;
  return std::is_same_v<T, __nv_bfloat16> ? 0x1p-8 : 0x1p-24;
}
template <typename T>
std::vector<T> RoundedAll(const std::vector<float>& values) {
  std::vector<T> result(values.size());
  std::transform(values.begin(), values.end(), result.begin(), [](float v) { return Rounded<T>(v); });
  return result;
}
// All bits set, as DeviceArray starts: NaN in every floating-point type.
template <typename T>
bool IsPoison(const T& value) {
  unsigned char bytes[sizeof(T)];
  memcpy(bytes, &value, sizeof value);
  return std::all_of(bytes, bytes + sizeof(T), [](unsigned char byte) { return byte == 0xFF; });
}
// Uniform in offset +- range.
inline std::vector<float> RandomFloats(size_t count, float range, uint32_t seed, float offset = 0) {
  std::mt19937 generator(seed);
  std::vector<float> values(count);
  for (float& v : values) {
    v = offset + range * (static_cast<float>(generator() >> 8) * 0x1p-23F - 1);
  }
  return values;
}

// `size` elements on the device, poison at first, between two edges of NaNs that must stay as they are.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    EXPECT_CUDA(cudaMalloc(&base_, size_ * sizeof(T) + 2 * kEdge));
    Poison();
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_CUDA(cudaMemcpy(data(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(base_); }

  void Poison() { EXPECT_CUDA(cudaMemset(base_, 0xFF, size_ * sizeof(T) + 2 * kEdge)); }
  T* data() const { return reinterpret_cast<T*>(static_cast<unsigned char*>(base_) + kEdge); }
  size_t size() const { return size_; }
  // Waits for the device; fails the test if an edge was written.
  std::vector<T> Download() const {
    std::vector<unsigned char> bytes(size_ * sizeof(T) + 2 * kEdge);
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_CUDA(cudaMemcpy(bytes.data(), base_, bytes.size(), cudaMemcpyDeviceToHost));
    const auto clean = [](unsigned char byte) { return byte == 0xFF; };
    EXPECT_TRUE(std::all_of(bytes.begin(), bytes.begin() + kEdge, clean)) << "bytes before the array were written";
    EXPECT_TRUE(std::all_of(bytes.end() - kEdge, bytes.end(), clean)) << "bytes behind the array were written";
    std::vector<T> values(size_);
    if (size_ > 0) memcpy(values.data(), bytes.data() + kEdge, size_ * sizeof(T));
    return values;
  }

 private:
  static constexpr size_t kEdge = 1024;
  size_t size_;
  void* base_ = nullptr;
};

// Queues a kernel that leaves nothing of others in the instruction caches (evict_code.cu).
Status EvictCode(cudaStream_t stream);

// Microseconds of one of `launches` calls of `launch(i, stream)`, from replays of a graph of them; the median of five.
inline double GraphMicroseconds(int launches, const std::function<Status(int, cudaStream_t)>& launch) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t instance = nullptr;
  EXPECT_CUDA(cudaStreamCreate(&stream));
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) EXPECT_OK(launch(i, stream));
  EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
  EXPECT_CUDA(cudaGraphInstantiate(&instance, graph, 0));
  cudaEvent_t start = nullptr, end = nullptr;
  EXPECT_CUDA(cudaEventCreate(&start));
  EXPECT_CUDA(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 7; ++i) {
    EXPECT_CUDA(cudaEventRecord(start, stream));
    EXPECT_CUDA(cudaGraphLaunch(instance, stream));
    EXPECT_CUDA(cudaEventRecord(end, stream));
    EXPECT_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    EXPECT_CUDA(cudaEventElapsedTime(&ms, start, end));
    if (i >= 2) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  cudaEventDestroy(start), cudaEventDestroy(end);
  cudaGraphExecDestroy(instance), cudaGraphDestroy(graph), cudaStreamDestroy(stream);
  return 1000.0 * times[2] / launches;
}

}  // namespace ting::cuda
