// tests/kernels/cuda/ffn_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// Random feed-forward layers on the device, and what they should compute, in double from the same 16-bit weights.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/fused_ffn.h"
#include "tests/kernels/cuda/gemm_testing.h"

namespace ting::cuda {

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
  std::unique_ptr<DeviceArray<uint16_t>> device_w1_, device_w2_;
  std::vector<std::unique_ptr<DeviceArray<float>>> device_vectors_;
  FusedFfnWeights weights_;
};

}  // namespace ting::cuda
