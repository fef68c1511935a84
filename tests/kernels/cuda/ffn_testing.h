// tests/kernels/cuda/ffn_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// Random feed-forward layers on the device, and what they should compute, in double from the same 16-bit weights.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/fused_ffn.h"

namespace ting::cuda {

#define ASSERT_CUDA_OK(call) ASSERT_EQ((call), cudaSuccess) << cudaGetErrorString(cudaGetLastError())

// Why GPU tests cannot run here, or null.
const char* WhyNoHopper();
#define TING_SKIP_WITHOUT_HOPPER()                                         \
  do {                                                                     \
    if (const char* ting_reason = WhyNoHopper(); ting_reason != nullptr) { \
      GTEST_SKIP() << ting_reason;                                         \
    }                                                                      \
  } while (false)

// Device memory of `count` T.
template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t count) : count_(count) {
    EXPECT_EQ(cudaMalloc(&data_, count * sizeof(T) + 16), cudaSuccess);
  }
  explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(values.size()) { Set(values); }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  void Set(const std::vector<T>& values) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<T> Get() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }
  T* get() const { return static_cast<T*>(data_); }

 private:
  size_t count_;
  void* data_ = nullptr;
};

struct LayerCase {
  DType type = DType::kF16;
  Activation activation = Activation::kSwish;
  int64_t F = 2048;
  bool norm = true, post = false, bias = true;
  float residual = 0.5F;
};

constexpr int64_t kWidth = 256;

// A layer whose hidden units and outputs are about 1 in size.
class RandomLayer {
 public:
  RandomLayer(const LayerCase& layer, uint32_t seed);
  const FusedFfnWeights& weights() const { return weights_; }
  // y [rows, 256], and how far from it each element may be.
  struct Expected {
    std::vector<double> y, tolerance;
  };
  Expected Compute(const std::vector<float>& x) const;

 private:
  void ComputeRow(const float* x, double* y, double* tolerance) const;
  double Round(double v) const;
  const float* Upload(const std::vector<float>& values);

  LayerCase case_;
  std::vector<double> w1_, w2_;
  std::vector<float> b1_, b2_, norm_gamma_, norm_beta_, post_gamma_, post_beta_;
  std::unique_ptr<DeviceBuffer<uint16_t>> device_w1_, device_w2_;
  std::vector<std::unique_ptr<DeviceBuffer<float>>> device_vectors_;
  FusedFfnWeights weights_;
};

// Uniform in +-`range`, the same everywhere for the same seed.
std::vector<float> RandomValues(size_t count, float range, uint32_t seed, float offset = 0);

}  // namespace ting::cuda
