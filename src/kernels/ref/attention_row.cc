// src/kernels/ref/attention_row.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/ref/attention_row.h"

#include <algorithm>
#include <cmath>

namespace ting::ref {
namespace {

double Dot(const float* a, const float* b, int64_t width) {
  double sum = 0;
  for (int64_t d = 0; d < width; ++d) sum += static_cast<double>(a[d]) * b[d];
  return sum;
}

// Everything of one head: pointers are at the head's first column.
struct Head {
  const float* q;
  const float* u = nullptr;
  const float* v = nullptr;
  const float* key_bias = nullptr;
  int64_t width;
};

// (q + u)·k + (q + v)·p, or folded q·(k + p) + key_bias·p, before the factor 1 / sqrt(Dh).
double RelativeScore(const Head& head, const float* k, const float* p) {
  double sum = 0;
  for (int64_t d = 0; d < head.width; ++d) {
    const double q = head.q[d], content = k[d], position = p[d];
    sum += head.key_bias != nullptr ? q * (content + position) + head.key_bias[d] * position
                                    : (q + head.u[d]) * content + (q + head.v[d]) * position;
  }
  return sum;
}

void SoftmaxInPlace(double* scores, int64_t count) {
  const double largest = *std::max_element(scores, scores + count);
  double sum = 0;
  for (int64_t j = 0; j < count; ++j) sum += scores[j] = std::exp(scores[j] - largest);
  for (int64_t j = 0; j < count; ++j) scores[j] /= sum;
}

void WeightedValues(const double* weights, const KeyRows& keys, int64_t column, int64_t width, float* context) {
  for (int64_t d = 0; d < width; ++d) {
    double sum = 0;
    for (int64_t j = 0; j < keys.count; ++j) {
      const int64_t row = keys.index != nullptr ? keys.index[j] : j;
      sum += weights[j] * keys.v[row * keys.stride + column + d];
    }
    context[d] = static_cast<float>(sum);
  }
}

Head HeadAt(const AttentionParams& params, const float* q, int64_t column) {
  Head head{q + column};
  head.width = params.head_width();
  if (!params.relative) return head;
  if (params.folded) {
    head.key_bias = params.key_bias.as<float>() + column;
  } else {
    head.u = params.pos_u.as<float>() + column;
    head.v = params.pos_v.as<float>() + column;
  }
  return head;
}

}  // namespace

void AttendRow(const AttentionParams& params, const float* q, const KeyRows& keys, double* scores, float* context) {
  if (keys.count == 0) {
    std::fill_n(context, params.D, 0.0F);
    return;
  }
  const double scale = params.folded ? 1.0 : 1.0 / std::sqrt(static_cast<double>(params.head_width()));
  for (int64_t column = 0; column < params.D; column += params.head_width()) {
    const Head head = HeadAt(params, q, column);
    for (int64_t j = 0; j < keys.count; ++j) {
      const int64_t row = keys.index != nullptr ? keys.index[j] : j;
      const float* k = keys.k + row * keys.stride + column;
      scores[j] = scale * (params.relative ? RelativeScore(head, k, keys.positions + j * params.D + column)
                                           : Dot(head.q, k, head.width));
    }
    SoftmaxInPlace(scores, keys.count);
    WeightedValues(scores, keys, column, head.width, context + column);
  }
}

}  // namespace ting::ref
