// tests/kernels/cuda/ffn_testing.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/ffn_testing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <thread>

namespace ting::cuda {
namespace {

uint16_t Bits16(DType type, float v) {
  return type == DType::kF16 ? std::bit_cast<uint16_t>(Rounded<__half>(v))
                             : std::bit_cast<uint16_t>(Rounded<__nv_bfloat16>(v));
}
double Value16(DType type, uint16_t bits) {
  return type == DType::kF16 ? HostDouble(std::bit_cast<__half>(bits)) : HostDouble(std::bit_cast<__nv_bfloat16>(bits));
}

double Act(Activation activation, double v) {
  if (activation == Activation::kRelu) return std::max(v, 0.0);
  if (activation == Activation::kSwish) return v / (1 + std::exp(-v));
  return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
}

// In place; returns the factor by which the norm stretches differences.
double Norm(std::vector<double>& row, const std::vector<float>& gamma, const std::vector<float>& beta, double eps) {
  double mean = 0, variance = 0, largest = 0;
  for (double v : row) mean += v / kWidth;
  for (double v : row) variance += (v - mean) * (v - mean) / kWidth;
  const double scale = 1 / std::sqrt(variance + eps);
  for (int64_t i = 0; i < kWidth; ++i) {
    row[i] = (row[i] - mean) * scale * gamma[i] + beta[i];
    largest = std::max(largest, std::abs(scale * gamma[i]));
  }
  return largest;
}

}  // namespace

RandomLayer::RandomLayer(const LayerCase& layer, uint32_t seed) : case_(layer) {
  const int64_t F = layer.F;
  const auto matrix = [&](float range, uint32_t salt, std::vector<double>& values) {
    const std::vector<float> random = RandomFloats(F * kWidth, range, seed + salt);
    std::vector<uint16_t> bits(random.size());
    values.resize(random.size());
    for (size_t i = 0; i < random.size(); ++i) {
      bits[i] = Bits16(layer.type, random[i]);
      values[i] = Value16(layer.type, bits[i]);
    }
    return std::make_unique<DeviceArray<uint16_t>>(bits);
  };
  device_w1_ = matrix(1.7F / std::sqrt(256.0F), 1, w1_);
  device_w2_ = matrix(3.0F / std::sqrt(static_cast<float>(F)), 2, w2_);
  b1_ = RandomFloats(F, layer.bias ? 1 : 0, seed + 3);
  b2_ = RandomFloats(kWidth, layer.bias ? 1 : 0, seed + 4);
  norm_gamma_ = RandomFloats(kWidth, 0.5F, seed + 5, 1);
  norm_beta_ = RandomFloats(kWidth, 0.5F, seed + 6);
  post_gamma_ = RandomFloats(kWidth, 0.5F, seed + 7, 1);
  post_beta_ = RandomFloats(kWidth, 0.5F, seed + 8);
  weights_.type = layer.type;
  weights_.D = kWidth, weights_.F = F;
  weights_.w1 = device_w1_->data(), weights_.w2 = device_w2_->data();
  if (layer.bias) weights_.b1 = Upload(b1_), weights_.b2 = Upload(b2_);
  if (layer.norm) weights_.norm_gamma = Upload(norm_gamma_), weights_.norm_beta = Upload(norm_beta_);
  if (layer.post) weights_.post_gamma = Upload(post_gamma_), weights_.post_beta = Upload(post_beta_);
  weights_.activation = layer.activation;
  weights_.residual = layer.residual;
}

const float* RandomLayer::Upload(const std::vector<float>& values) {
  device_vectors_.push_back(std::make_unique<DeviceArray<float>>(values));
  return device_vectors_.back()->data();
}

double RandomLayer::Round(double v) const { return Value16(case_.type, Bits16(case_.type, static_cast<float>(v))); }

// The tolerance. The kernel's f32 sums differ from these in the last bits, so a few hidden units round to the
// neighbouring T: an error of 2 u |h|, u the unit roundoff of T. Of random sign and for ALL units that would be 2 u
// sqrt(sum (w2 h)^2) as a standard deviation; the tolerance is twice that plus the rounding of the f32 sums. One hidden
// unit of 2048 left out is 0.02 sqrt(...), above it for f16 (0.002) and at it for bf16 (0.016).
void RandomLayer::ComputeRow(const float* x, double* y, double* tolerance) const {
  const double u = case_.type == DType::kF16 ? RoundingError<__half>() : RoundingError<__nv_bfloat16>();
  std::vector<double> row(x, x + kWidth), hidden(case_.F);
  if (case_.norm) Norm(row, norm_gamma_, norm_beta_, weights_.norm_eps);
  for (double& v : row) v = Round(v);
  for (int64_t f = 0; f < case_.F; ++f) {
    double sum = b1_[f];
    for (int64_t k = 0; k < kWidth; ++k) sum += w1_[f * kWidth + k] * row[k];
    hidden[f] = Round(Act(case_.activation, sum));
  }
  for (int64_t d = 0; d < kWidth; ++d) {
    double sum = 0, squares = 0, magnitude = 0;
    for (int64_t f = 0; f < case_.F; ++f) {
      const double term = w2_[d * case_.F + f] * hidden[f];
      sum += term, squares += term * term, magnitude += std::abs(term);
    }
    sum += b2_[d];
    row[d] = case_.residual == 0 ? sum : x[d] + case_.residual * sum;
    tolerance[d] = (case_.residual == 0 ? 1 : case_.residual) * (4 * u * std::sqrt(squares) + 0x1p-20 * magnitude) +
                   0x1p-22 * std::abs(row[d]);
  }
  if (case_.post) {
    const double stretch = Norm(row, post_gamma_, post_beta_, weights_.post_eps);
    const double largest = *std::max_element(tolerance, tolerance + kWidth);
    for (int64_t d = 0; d < kWidth; ++d) tolerance[d] = largest * stretch * 2 + 0x1p-20 * (1 + std::abs(row[d]));
  }
  std::copy(row.begin(), row.end(), y);
}

RandomLayer::Expected RandomLayer::Compute(const std::vector<float>& x) const {
  const int64_t rows = static_cast<int64_t>(x.size()) / kWidth;
  Expected expected{std::vector<double>(x.size()), std::vector<double>(x.size())};
  const int64_t num_threads = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, 16);
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < num_threads; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t r = t; r < rows; r += num_threads) {
        ComputeRow(&x[r * kWidth], &expected.y[r * kWidth], &expected.tolerance[r * kWidth]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return expected;
}

}  // namespace ting::cuda
