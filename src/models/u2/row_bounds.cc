// src/models/u2/row_bounds.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/row_bounds.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ting {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

std::vector<float> Values(const WeightView& vector) {
  if (!vector.present()) return {};
  const auto* data = vector.as<float>();
  return std::vector<float>(data, data + vector.shape.num_elements());
}

double Magnitude(const std::vector<float>& values, int64_t i) {
  return values.empty() ? 0 : std::abs(static_cast<double>(values[i]));
}

Rows Normalised(const std::vector<float>& gamma, const std::vector<float>& beta) {
  Rows rows{Bounds(gamma.size()), gamma, beta};
  const double most = std::sqrt(static_cast<double>(gamma.size()));
  for (size_t d = 0; d < gamma.size(); ++d) rows.each[d] = most * Magnitude(gamma, d) + Magnitude(beta, d);
  return rows;
}

// The largest of |w (gamma z + beta) + bias| over all z of D numbers whose squares sum to D at most.
double NormalisedProduct(const float* w, int64_t D, const Rows& rows, double bias) {
  double squares = 0;
  for (int64_t d = 0; d < D; ++d) {
    const double slope = static_cast<double>(w[d]) * rows.gamma[d];
    squares += slope * slope;
    bias += static_cast<double>(w[d]) * rows.beta[d];
  }
  return std::sqrt(static_cast<double>(D) * squares) + std::abs(bias);
}

double BoxProduct(const float* w, int64_t K, const Bounds& each, double bias) {
  if (each.empty()) return kInfinite;
  double sum = std::abs(bias);
  for (int64_t k = 0; k < K; ++k) sum += std::abs(static_cast<double>(w[k])) * each[k % each.size()];
  return sum;
}

// The larger one of the two position biases of each column of q.
Bounds PositionBiases(const AttentionParams& p) {
  const std::vector<float> u = Values(p.pos_u), v = Values(p.pos_v);
  Bounds larger(p.D);
  for (int64_t d = 0; d < p.D; ++d) larger[d] = std::max(Magnitude(u, d), Magnitude(v, d));
  return larger;
}

Bounds Depthwise(const ConvModuleParams& p, const Bounds& ab) {
  const std::vector<float> outside = Values(p.pw1.bias);  // of rows before the first one
  const std::vector<float> taps = Values(p.dw), bias = Values(p.dw_bias);
  Bounds c(p.D);
  for (int64_t d = 0; d < p.D; ++d) {
    double sum = 0;
    for (int k = 0; k < p.taps; ++k) sum += Magnitude(taps, k * p.D + d);
    c[d] = sum * std::max(ab[d], Magnitude(outside, d)) + Magnitude(bias, d);
  }
  return c;
}

Bounds ConvNormOf(const ConvModuleParams& p, Bounds c) {
  const std::vector<float> gamma = Values(p.gamma), beta = Values(p.beta);
  if (p.conv_norm == ConvNorm::kLayerNorm) return Normalised(gamma, beta).each;
  if (p.conv_norm == ConvNorm::kNone) return c;
  const std::vector<float> mean = Values(p.mean), var = Values(p.var);
  for (int64_t d = 0; d < p.D; ++d) {
    c[d] = (c[d] + Magnitude(mean, d)) * Magnitude(gamma, d) / std::sqrt(static_cast<double>(var[d]) + p.eps) +
           Magnitude(beta, d);
  }
  return c;
}

}  // namespace

double Most(const Bounds& bounds) {
  double most = 0;
  for (const double bound : bounds) most = std::max(most, std::isnan(bound) ? kInfinite : bound);
  return most;
}

Bounds Sum(Bounds a, double scale, const Bounds& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += a.size() == b.size() ? std::abs(scale) * b[i] : kInfinite;
  return a;
}

Rows Through(const NormParams& norm, Rows rows) {
  return norm.present ? Normalised(Values(norm.gamma), Values(norm.beta)) : std::move(rows);
}

void NodeBounds::Note(double most) {
  if (std::isnan(most)) most = kInfinite;
  if (most > largest_->most) *largest_ = {most, place_};
}

Bounds NodeBounds::Product(const Rows& x, const LinearParams& linear, double scale) {
  const std::vector<float> matrix = UnpackMatrix(linear.weight);
  const std::vector<float> bias = Values(linear.bias);
  const int64_t K = linear.K();
  scale = std::abs(scale);
  Bounds bounds(linear.N());
  for (int64_t n = 0; n < linear.N(); ++n) {
    const float* w = matrix.data() + n * K;
    const double b = bias.empty() ? 0 : bias[n];
    bounds[n] = scale * (x.gamma.empty() ? BoxProduct(w, K, x.each, b) : NormalisedProduct(w, K, x, b));
  }
  Note(x.each);
  for (const float w : matrix) Note(scale * std::abs(static_cast<double>(w)));
  return bounds;
}

Rows NodeBounds::FeedForward(const FeedForwardParams& p, const Rows& x) {
  const Bounds hidden = Product(Through(p.norm, x), p.w1);
  const Bounds f = Product({hidden, {}, {}}, p.w2);
  return Through(p.post, {p.residual == 0 ? f : Sum(x.each, p.residual, f), {}, {}});
}

Rows NodeBounds::SelfAttention(const AttentionParams& p, const Rows& x) {
  const Rows h = Through(p.norm, x);
  Bounds q, k, v;
  if (p.packed) {
    const Bounds all = Product(h, p.qkv);
    q.assign(all.begin(), all.begin() + p.D);
    k.assign(all.begin() + p.D, all.begin() + 2 * p.D);
    v.assign(all.begin() + 2 * p.D, all.end());
  } else {
    q = Product(h, p.q), k = Product(h, p.k), v = Product(h, p.v);
  }
  if (p.relative) k = Sum(k, 1, Product({Bounds(p.D, 1.0), {}, {}}, p.pos));  // sines and cosines
  if (p.pos_u.present()) q = Sum(q, 1, PositionBiases(p));
  return Attention(p, x, q, k, v);
}

Rows NodeBounds::CrossAttention(const AttentionParams& p, const Rows& x, const Bounds& memory) {
  const Bounds q = Product(Through(p.norm, x), p.q);
  const auto key = memory.begin() + p.key_column;
  return Attention(p, x, q, Bounds(key, key + p.D), Bounds(key + p.D, key + 2 * p.D));
}

// A context is a mean of values.
Rows NodeBounds::Attention(const AttentionParams& p, const Rows& x, const Bounds& q, const Bounds& k, const Bounds& v) {
  Note(q), Note(k);
  const Bounds f = Product({v, {}, {}}, p.o);
  return {p.residual ? Sum(x.each, 1, f) : f, {}, {}};
}

Rows NodeBounds::ConvModule(const ConvModuleParams& p, const Rows& x) {
  const Bounds ab = Product(Through(p.norm, x), p.pw1);
  Note(ab);
  const Bounds c = Depthwise(p, ab);
  Note(c);
  for (const float tap : Values(p.dw)) Note(std::abs(static_cast<double>(tap)));
  const Bounds f = Product({ConvNormOf(p, c), {}, {}}, p.pw2);
  return {p.residual ? Sum(x.each, 1, f) : f, {}, {}};
}

Rows NodeBounds::Subsample(const SubsampleParams& p, const Rows& features) {
  Bounds x = features.each;
  const std::vector<float> mean = Values(p.mean), istd = Values(p.istd);
  for (size_t d = 0; d < istd.size(); ++d) x[d] = (x[d] + Magnitude(mean, d)) * Magnitude(istd, d);
  x = {Most(x)};  // a filter meets every frequency
  for (const LinearParams& conv : p.convs) x = Product({x, {}, {}}, conv);
  return {Product({x, {}, {}}, p.out, p.scale), {}, {}};
}

}  // namespace ting
