// tests/support/cuda_device.h
// SPDX-License-Identifier: Apache-2.0
//
// For tests that need a GPU: skipping without one, and device memory that notices what is written around it.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

// Skips the test, visibly, on a machine without a usable GPU.
#define TING_REQUIRE_GPU()                                                                                  \
  do {                                                                                                      \
    int ting_num_devices = 0;                                                                               \
    const cudaError_t ting_gpu = cudaGetDeviceCount(&ting_num_devices);                                     \
    if (ting_gpu != cudaSuccess || ting_num_devices == 0) {                                                 \
      GTEST_SKIP() << "no GPU: " << cudaGetErrorString(ting_gpu) << ", " << ting_num_devices << " devices"; \
    }                                                                                                       \
  } while (false)

#define TING_ASSERT_CUDA(expr)                                            \
  do {                                                                    \
    const cudaError_t ting_error = (expr);                                \
    ASSERT_EQ(ting_error, cudaSuccess) << cudaGetErrorString(ting_error); \
  } while (false)

namespace ting::testing {

// `size` elements of device memory between two strips of canaries, filled with them as well.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t size) : size_(size) {
    EXPECT_EQ(cudaMalloc(&memory_, bytes()), cudaSuccess);
    EXPECT_EQ(cudaMemset(memory_, kByte, bytes()), cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(static_cast<int64_t>(values.size())) {
    EXPECT_EQ(cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() {
    ExpectCanaries();
    (void)cudaFree(memory_);
  }

  T* data() { return reinterpret_cast<T*>(static_cast<char*>(memory_) + kGuardBytes); }
  std::vector<T> Read() {
    std::vector<T> values(size_);
    EXPECT_EQ(cudaMemcpy(values.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  static constexpr size_t kGuardBytes = 1024;
  static constexpr unsigned char kByte = 0xA5;
  size_t bytes() const { return size_ * sizeof(T) + 2 * kGuardBytes; }
  void ExpectCanaries() {
    std::vector<unsigned char> all(bytes());
    EXPECT_EQ(cudaMemcpy(all.data(), memory_, all.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    size_t overwritten = 0;
    for (size_t i = 0; i < kGuardBytes; ++i) {
      overwritten += (all[i] != kByte) + (all[all.size() - 1 - i] != kByte);
    }
    EXPECT_EQ(overwritten, 0U) << "bytes around the array";
  }

  const int64_t size_;
  void* memory_ = nullptr;
};

}  // namespace ting::testing
