// src/kernels/ref/ref_math.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/ref/ref_math.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace ting::ref {
namespace {

// Four partial sums, because one chain of additions cannot be vectorised without changing its order. A product of two
// f32 is exact in f64, so fused and separate multiply-add give the same bits, and so do all widths of vectors.
using Lanes = double __attribute__((vector_size(32)));
using NarrowLanes = float __attribute__((vector_size(16)));
constexpr int64_t kLanes = 4;

// sums[r] = w · x_r for kRows rows of x, K apart.
template <int kRows>
inline void Dot(const float* w, const double* x, int64_t K, double* sums) {
  Lanes partial[kRows] = {};
  const int64_t whole = K / kLanes * kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) {
    NarrowLanes narrow;
    std::memcpy(&narrow, w + k, sizeof(narrow));
    const Lanes wide = __builtin_convertvector(narrow, Lanes);
    for (int r = 0; r < kRows; ++r) {
      Lanes values;
      std::memcpy(&values, x + r * K + k, sizeof(values));
      partial[r] += wide * values;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    sums[r] = (partial[r][0] + partial[r][1]) + (partial[r][2] + partial[r][3]);
    for (int64_t k = whole; k < K; ++k) sums[r] += static_cast<double>(w[k]) * x[r * K + k];
  }
}

}  // namespace

Linear::Linear(const LinearParams& params) : N_(params.N()), K_(params.K()), weight_(UnpackMatrix(params.weight)) {
  bias_.assign(N_, 0.0F);
  if (params.bias.present()) std::copy_n(params.bias.as<float>(), N_, bias_.begin());
}

template <int kRows>
void Linear::ApplyBlock(const double* x, float* y, int64_t y_stride) const {
  for (int64_t n = 0; n < N_; ++n) {
    double sums[kRows];
    Dot<kRows>(weight_.data() + n * K_, x, K_, sums);
    for (int r = 0; r < kRows; ++r) y[r * y_stride + n] = static_cast<float>(sums[r] + bias_[n]);
  }
}

void Linear::Apply(const float* x, int64_t rows, float* y, int64_t y_stride, double* scratch) const {
  for (int64_t row = 0; row < rows; row += kRowBlock) {
    const int64_t count = std::min(kRowBlock, rows - row);
    std::copy_n(x + row * K_, count * K_, scratch);
    float* out = y + row * y_stride;
    switch (count) {
      case 1:
        ApplyBlock<1>(scratch, out, y_stride);
        break;
      case 2:
        ApplyBlock<2>(scratch, out, y_stride);
        break;
      case 3:
        ApplyBlock<3>(scratch, out, y_stride);
        break;
      default:
        ApplyBlock<kRowBlock>(scratch, out, y_stride);
    }
  }
}

void LayerNormRow(const float* x, int64_t D, const float* gamma, const float* beta, float eps, float* y) {
  double sum = 0;
  for (int64_t d = 0; d < D; ++d) sum += x[d];
  const double mean = sum / static_cast<double>(D);
  double squares = 0;
  for (int64_t d = 0; d < D; ++d) squares += (x[d] - mean) * (x[d] - mean);
  const double inverse = 1 / std::sqrt(squares / static_cast<double>(D) + static_cast<double>(eps));
  for (int64_t d = 0; d < D; ++d) y[d] = static_cast<float>((x[d] - mean) * inverse * gamma[d] + beta[d]);
}

const float* NormRows(const NormParams& norm, const float* x, int64_t rows, int64_t D, float* scratch) {
  if (!norm.present) return x;
  for (int64_t row = 0; row < rows; ++row) {
    LayerNormRow(x + row * D, D, norm.gamma.as<float>(), norm.beta.as<float>(), norm.eps, scratch + row * D);
  }
  return scratch;
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

float Activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0 ? 0 : x;  // not max(0, x): NaN must stay NaN
    case Activation::kSwish:
      return static_cast<float>(x * Sigmoid(x));
    case Activation::kGelu:
      return static_cast<float>(0.5 * x * (1 + std::erf(x / std::sqrt(2.0))));
  }
  return x;
}

void ActivateAll(Activation activation, float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = Activate(activation, x[i]);
}

double LogSumExp(const float* x, int64_t count) {
  const double largest = *std::max_element(x, x + count);
  if (std::isinf(largest)) return largest;  // all -inf, or a +inf: exp(x - largest) would be NaN
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(x[i] - largest);
  return largest + std::log(sum);
}

}  // namespace ting::ref
