// tests/kernels/cuda/conv_pair_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// Random problems for ConvPair on the device. y is NaNs at first.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/cuda/conv_kernels.h"
#include "tests/kernels/cuda/gemm_testing.h"

namespace ting::cuda {

struct PairCase {
  std::vector<int> frames;
  int64_t F_in = 80, C = 256;
  bool cmvn = true;
  int empty_sequences = 0;  // behind the last
};

inline int OutputRows(int frames) { return frames < 7 ? 0 : (frames - 7) / 4 + 1; }

template <typename T>
class PairProblem {
 public:
  explicit PairProblem(const PairCase& pair_case)
      : c(pair_case),
        in(Offsets([](int frames) { return frames; })),
        out(Offsets(OutputRows)),
        features(RandomFloats(static_cast<size_t>(in.back() * c.F_in), 4, 1, 8)),
        mean(RandomFloats(c.F_in, 2, 2, 8)),
        istd(RandomFloats(c.F_in, 0.1F, 3, 0.4F)),
        bias{RandomFloats(c.C, 0.5F, 4), RandomFloats(c.C, 0.5F, 5)},
        weight{RoundedAll<T>(RandomFloats(c.C * 9, 0.6F, 6)),
               RoundedAll<T>(RandomFloats(c.C * 9 * c.C, 2 / std::sqrt(9.0F * static_cast<float>(c.C)), 7))},
        device_in_(in),
        device_out_(out),
        device_features_(features),
        device_mean_(mean),
        device_istd_(istd),
        device_bias0_(bias[0]),
        device_bias1_(bias[1]),
        device_weight0_(weight[0]),
        device_weight1_(weight[1]),
        y(static_cast<size_t>(Sizes().max_rows_out * Sizes().F_out() * c.C)) {}

  ConvPairArguments Arguments() const {
    ConvPairArguments a = Sizes();
    a.features = device_features_.data();
    if (c.cmvn) a.mean = device_mean_.data(), a.istd = device_istd_.data();
    a.in_offsets = device_in_.data(), a.out_offsets = device_out_.data();
    a.weight[0] = device_weight0_.data(), a.weight[1] = device_weight1_.data();
    a.bias[0] = device_bias0_.data(), a.bias[1] = device_bias1_.data();
    a.y = y.data();
    return a;
  }
  int64_t F1() const { return Sizes().F1(); }
  int64_t F_out() const { return Sizes().F_out(); }

  const PairCase c;
  const std::vector<int32_t> in, out;
  const std::vector<float> features, mean, istd, bias[2];
  const std::vector<T> weight[2];

 private:
  ConvPairArguments Sizes() const {
    ConvPairArguments a;
    a.storage = DTypeOf<T>();
    a.F_in = c.F_in, a.C = c.C;
    a.B = static_cast<int64_t>(in.size()) - 1;
    a.max_rows_out = out.back() + 13;
    return a;
  }
  std::vector<int32_t> Offsets(int (*rows)(int)) const {
    std::vector<int32_t> offsets = {0};
    for (const int frames : c.frames) offsets.push_back(offsets.back() + rows(frames));
    offsets.insert(offsets.end(), c.empty_sequences, offsets.back());
    return offsets;
  }
  DeviceArray<int32_t> device_in_, device_out_;
  DeviceArray<float> device_features_, device_mean_, device_istd_, device_bias0_, device_bias1_;
  DeviceArray<T> device_weight0_, device_weight1_;

 public:
  DeviceArray<T> y;
};

}  // namespace ting::cuda
