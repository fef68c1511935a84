// src/kernels/ref/ref_math.h
// SPDX-License-Identifier: Apache-2.0
//
// What several reference ops compute: matrix times rows, LayerNorm, activations, log-sum-exp.
//
// Numerics of the whole backend: every sum runs in f64 in an order that depends on the width alone, never on how many
// rows there are, so a row's bits are the same in any batch. Results of a matrix product, a norm, an activation and a
// residual sum are rounded to f32 where they are stored. Weights in bf16 are used as they are, widened; activations are
// *not* rounded to bf16 here, although the other backends do: ref says what the stored model computes, and the distance
// of a backend to it is that backend's rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/params.h"

namespace ting::ref {

// y = W x + b over rows, weights as row-major f32.
class Linear {
 public:
  Linear() = default;
  explicit Linear(const LinearParams& params);
  int64_t N() const { return N_; }
  int64_t K() const { return K_; }
  // Doubles that Apply needs as scratch.
  int64_t ScratchSize() const { return kRowBlock * K_; }
  // Rows of x are K apart, rows of y `y_stride` >= N.
  void Apply(const float* x, int64_t rows, float* y, int64_t y_stride, double* scratch) const;
  void Apply(const float* x, int64_t rows, float* y, double* scratch) const { Apply(x, rows, y, N_, scratch); }

 private:
  static constexpr int64_t kRowBlock = 4;  // rows that share one pass over the weights
  template <int kRows>
  void ApplyBlock(const double* x, float* y, int64_t y_stride) const;

  int64_t N_ = 0, K_ = 0;
  std::vector<float> weight_, bias_;  // [N, K], [N]; bias 0 where the node has none
};

// y = (x - mean) / sqrt(var + eps) * gamma + beta of one row; y may be x. Variance in two passes.
void LayerNormRow(const float* x, int64_t D, const float* gamma, const float* beta, float eps, float* y);
// The optional norm in front of an op: the normalised rows in `scratch` [rows, D], or x itself without a norm.
const float* NormRows(const NormParams& norm, const float* x, int64_t rows, int64_t D, float* scratch);

float Activate(Activation activation, float x);
void ActivateAll(Activation activation, float* x, int64_t count);
double Sigmoid(double x);

// log(sum(exp(x))) of `count` >= 1 values.
double LogSumExp(const float* x, int64_t count);

}  // namespace ting::ref
