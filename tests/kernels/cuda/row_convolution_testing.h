// tests/kernels/cuda/row_convolution_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// Depthwise convolutions with seeded values, on the device and as double loops over the same rounded rows.
#pragma once

#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cuda/row_kernels.h"
#include "tests/kernels/cuda/gemm_testing.h"

namespace ting::cuda {

struct ConvolutionCase {
  std::vector<int> lengths;
  int64_t D = 256;
  int taps = 15;
  bool causal = false, norm = false, scale = false;
  Activation activation = Activation::kSwish;
  int64_t padding = 5;  // rows and sequences past those in use

  int64_t rows() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }
  int64_t left() const { return causal ? taps - 1 : (taps - 1) / 2; }
};

template <typename T>
class Convolution {
 public:
  // `rows` instead of seeded ones: [case.rows(), D].
  explicit Convolution(const ConvolutionCase& made, const std::vector<float>& rows = {})
      : c(made),
        x_(rows.empty() ? RandomFloats(c.rows() * c.D, 1, 1) : rows),
        taps_(RandomFloats(c.taps * c.D, 0.5F, 2)),
        bias_(RandomFloats(c.D, 0.5F, 3)),
        edge_(RandomFloats(c.D, 1, 4)),
        gamma_(RandomFloats(c.D, 0.5F, 5, 1)),
        beta_(RandomFloats(c.D, 0.2F, 6)),
        stored_(RoundedAll<T>(x_)),
        device_x_(WithPadding()),
        device_taps_(taps_),
        device_bias_(bias_),
        device_edge_(edge_),
        device_gamma_(gamma_),
        device_beta_(beta_),
        device_offsets_(Offsets()) {}

  DepthwiseParams Params() const {
    DepthwiseParams p;
    p.taps = device_taps_.data(), p.bias = device_bias_.data();
    if (c.causal) p.edge = device_edge_.data();
    p.num_taps = c.taps, p.left = static_cast<int>(c.left()), p.activation = c.activation;
    if (c.norm) p.norm = {device_gamma_.data(), device_beta_.data(), 1e-5F};
    if (c.scale) p.scale = device_gamma_.data(), p.shift = device_beta_.data();
    return p;
  }
  DeviceRows Rows() const {
    const int sequences = static_cast<int>(device_offsets_.size()) - 1;
    return {device_offsets_.data(), device_offsets_.data() + sequences, sequences, 0};
  }
  RowRange Range() const { return {c.rows() + c.padding, Rows().count, 0}; }
  const T* x() const { return device_x_.data(); }

  // Rows in use; fails the test if others were written.
  std::vector<T> Run(int window) const {
    DeviceArray<T> y(static_cast<size_t>((c.rows() + c.padding) * c.D));
    EXPECT_OK(DepthwiseRows(DTypeOf<T>(), x(), Params(), Rows(), Range(), c.D, y.data(), nullptr, window));
    std::vector<T> values = y.Download();
    EXPECT_TRUE(std::all_of(values.begin() + c.rows() * c.D, values.end(), IsPoison<T>)) << "rows past the last";
    values.resize(static_cast<size_t>(c.rows() * c.D));
    return values;
  }

  std::vector<double> Expected(int64_t row) const {
    int64_t begin = 0, end = 0;
    for (const int length : c.lengths) {
      begin = end, end += length;
      if (row < end) break;
    }
    std::vector<double> v(bias_.begin(), bias_.end());
    for (int64_t k = 0; k < c.taps; ++k) {
      const int64_t from = row + k - c.left();
      for (int64_t d = 0; d < c.D; ++d) v[d] += taps_[k * c.D + d] * Frame(from, d, begin, end);
    }
    if (c.scale) Affine(v, 0, 1);
    if (c.norm) Normalise(v);
    for (double& e : v) e = c.activation == Activation::kSwish ? e / (1 + std::exp(-e)) : e;
    return v;
  }

  const ConvolutionCase c;

 private:
  double Frame(int64_t from, int64_t d, int64_t begin, int64_t end) const {
    if (from >= begin && from < end) return HostDouble(stored_[from * c.D + d]);
    return from < begin && c.causal ? HostDouble(Rounded<T>(edge_[d])) : 0;
  }
  void Affine(std::vector<double>& v, double mean, double scale) const {
    for (int64_t d = 0; d < c.D; ++d) v[d] = (v[d] - mean) * scale * gamma_[d] + beta_[d];
  }
  void Normalise(std::vector<double>& v) const {
    double mean = 0, variance = 0;
    for (const double e : v) mean += e / static_cast<double>(c.D);
    for (const double e : v) variance += (e - mean) * (e - mean) / static_cast<double>(c.D);
    Affine(v, mean, 1 / std::sqrt(variance + 1e-5));
  }
  // Rows past those in use are NaN.
  std::vector<T> WithPadding() const {
    std::vector<T> rows = stored_;
    rows.resize(static_cast<size_t>((c.rows() + c.padding) * c.D), Rounded<T>(NAN));
    return rows;
  }
  std::vector<int32_t> Offsets() const {
    std::vector<int32_t> offsets = {0};
    for (const int length : c.lengths) offsets.push_back(offsets.back() + length);
    offsets.insert(offsets.end(), static_cast<size_t>(c.padding), offsets.back());
    return offsets;
  }

  std::vector<float> x_, taps_, bias_, edge_, gamma_, beta_;
  std::vector<T> stored_;
  DeviceArray<T> device_x_;
  DeviceArray<float> device_taps_, device_bias_, device_edge_, device_gamma_, device_beta_;
  DeviceArray<int32_t> device_offsets_;
};

}  // namespace ting::cuda
