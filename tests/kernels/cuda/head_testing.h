// tests/kernels/cuda/head_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// A vocabulary layer on the device for the tests and the bench of the fused head.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "kernels/cuda/fused_head.h"
#include "tests/kernels/cuda/gemm_testing.h"

namespace ting::cuda {

struct HeadCase {
  int64_t M = 1, V = 1, K = 256;
  bool norm = false;
  int64_t blank = -1;
  float penalty = 0;
};

// Values on the host, as they are before rounding to the type of the product.
struct HeadValues {
  std::vector<float> x, w, bias, gamma, beta;
};
inline HeadValues RandomHead(const HeadCase& c, uint32_t seed) {
  HeadValues values;
  values.x = RandomFloats(static_cast<size_t>(c.M * c.K), 1, seed, c.norm ? 0.3F : 0);
  const float range = (c.norm ? 3.0F : 5.0F) / std::sqrt(static_cast<float>(c.K));  // logits of a few units
  values.w = RandomFloats(static_cast<size_t>(c.V * c.K), range, seed + 1);
  values.bias = RandomFloats(static_cast<size_t>(c.V), 0.5F, seed + 2);
  values.gamma = RandomFloats(static_cast<size_t>(c.K), 0.5F, seed + 3, 1);
  values.beta = RandomFloats(static_cast<size_t>(c.K), 0.2F, seed + 4);
  return values;
}

template <typename T>
class DeviceHead {
 public:
  DeviceHead(const HeadCase& c, const HeadValues& values)
      : case_(c), w_(RoundedAll<T>(values.w)), bias_(values.bias), gamma_(values.gamma), beta_(values.beta) {}

  FusedHeadWeights Weights() const {
    FusedHeadWeights weights;
    weights.type = DTypeOf<T>();
    weights.V = case_.V, weights.K = case_.K, weights.w = w_.data(), weights.bias = bias_.data();
    if (case_.norm) weights.gamma = gamma_.data(), weights.beta = beta_.data();
    weights.blank = case_.blank;
    return weights;
  }
  FusedHead Make() const {
    Result<FusedHead> head = FusedHead::Create(Weights());
    EXPECT_TRUE(head.ok()) << head.status().ToString();
    return std::move(head).value();
  }

 private:
  HeadCase case_;
  DeviceArray<T> w_;
  DeviceArray<float> bias_, gamma_, beta_;
};

inline std::string Name(const FusedHeadConfig& c) {
  return std::to_string(c.row_groups) + " x 64 rows, " + std::to_string(c.splits) + " splits" +
         (c.sharing > 1 ? ", shared" : "");
}

}  // namespace ting::cuda
