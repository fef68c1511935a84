// tests/kernels/cuda/conv_pair_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// ConvPair against loops in f64 over the same rounded operands, the first stage's output among them; that the way it is
// cut, and a sequence's neighbours, change no bit.
#include <cstdio>
#include <memory>

#include "tests/kernels/cuda/conv_pair_testing.h"
#include "tests/support/take_case.h"

namespace ting::cuda {
namespace {

template <typename T>
class ConvPairTest : public ::testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_HOPPER(); }
};
using Halves = ::testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(ConvPairTest, Halves);

// Every length around the first row of either plane; sequences without output between others.
PairCase Awkward() { return {{7, 8, 9, 3, 11, 500, 6, 30, 10, 1}, 80, 256, true, 5}; }
std::vector<PairCase> Shapes() {
  return {Awkward(),
          {{500}, 80, 256, false},
          {{61, 7}, 23, 64, true, 1},
          {{200, 9, 131}, 256, 64, true},
          {{40, 33}, 41, 320, true},
          {{7}, 80, 512, true},
          {{175, 9}, 19, 128, false, 2}};
}
bool Sampled(int64_t t, int64_t f, int64_t rows, int64_t columns) {
  return t < 2 || t + 2 >= rows || f == 0 || f + 1 == columns || (t + f) % 13 == 0;
}

// relu(bias + sum of x[k] w[k]) of one channel, and how far off it may be: by the sum in f32; by its own rounding; and
// by some x that the kernel, whose sums have another order, rounded to the other neighbour, which is rare.
struct Expected {
  double value, tolerance;
};
template <typename T>
Expected Output(const std::vector<double>& x, const T* w, double bias) {
  constexpr double kSumError = 4e-6, kOtherwiseRounded = 8;
  double sum = bias, size = std::abs(bias), largest = 0;
  for (size_t k = 0; k < x.size(); ++k) {
    const double product = x[k] * HostDouble(w[k]);
    sum += product, size += std::abs(product), largest = std::max(largest, std::abs(product));
  }
  const double value = std::max(sum, 0.0);
  const double rounded = RoundingError<T>() * (value + 2 * kOtherwiseRounded * largest);
  return {value, kSumError * size + rounded + 1e-6 * value + 1e-7};
}

// The first stage of a sequence, rounded, [time row, frequency, channel].
template <typename T>
std::vector<T> FirstStage(const PairProblem<T>& problem, size_t b) {
  const int64_t F_in = problem.c.F_in, F1 = problem.F1(), C = problem.c.C;
  const int64_t rows = 2 * (problem.out[b + 1] - problem.out[b]) + 1;
  std::vector<T> stage(static_cast<size_t>(rows * F1 * C));
  for (int64_t at = 0; at < rows * F1; ++at) {
    float patch[9];
    for (int64_t i = 0; i < 9; ++i) {
      const int64_t x = 2 * (at % F1) + i % 3;
      const float v = problem.features[static_cast<size_t>((problem.in[b] + 2 * (at / F1) + i / 3) * F_in + x)];
      patch[i] = problem.c.cmvn ? (v - problem.mean[x]) * problem.istd[x] : v;
    }
    for (int64_t channel = 0; channel < C; ++channel) {
      float sum = problem.bias[0][channel];
      for (int i = 0; i < 9; ++i)
        sum = std::fma(static_cast<float>(HostDouble(problem.weight[0][channel * 9 + i])), patch[i], sum);
      stage[at * C + channel] = Rounded<T>(std::max(sum, 0.0F));
    }
  }
  return stage;
}

template <typename T>
void CheckSequence(const PairProblem<T>& problem, size_t b, const std::vector<T>& y) {
  const int64_t C = problem.c.C, F1 = problem.F1(), F_out = problem.F_out(), rows = problem.out[b + 1] - problem.out[b];
  if (rows == 0) return;
  const std::vector<T> stage = FirstStage(problem, b);
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t f = 0; f < F_out; ++f) {
      if (!Sampled(t, f, rows, F_out)) continue;
      std::vector<double> patch;
      for (int64_t i = 0; i < 9; ++i) {
        const size_t at = static_cast<size_t>(((2 * t + i / 3) * F1 + 2 * f + i % 3) * C);
        for (int64_t k = 0; k < C; ++k) patch.push_back(HostDouble(stage[at + k]));
      }
      for (int64_t channel = 0; channel < C; channel += 1 + (t + f) % 5) {
        const Expected e = Output(patch, &problem.weight[1][channel * 9 * C], problem.bias[1][channel]);
        EXPECT_NEAR(HostDouble(y[((problem.out[b] + t) * F_out + f) * C + channel]), e.value, e.tolerance)
            << "sequence " << b << ", row " << t << ", frequency " << f << ", channel " << channel;
        if (::testing::Test::HasFailure()) return;
      }
    }
  }
}

template <typename T>
void CheckPair(const PairProblem<T>& problem, const std::vector<T>& y) {
  for (size_t b = 0; b + 1 < problem.out.size(); ++b) CheckSequence(problem, b, y);
  const size_t used = static_cast<size_t>(problem.out.back() * problem.F_out() * problem.c.C);
  EXPECT_TRUE(std::all_of(y.begin() + used, y.end(), IsPoison<T>)) << "rows beyond the last were written";
}

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

TYPED_TEST(ConvPairTest, EveryCut) {
  for (const PairCase& pair_case : Shapes()) {
    PairProblem<TypeParam> problem(pair_case);
    std::vector<TypeParam> first;
    for (const ConvPairConfig& config : kConvPairConfigs) {
      if (!SupportsConvPair(problem.Arguments(), config).ok() || !TakeCase()) continue;
      problem.y.Clear();
      EXPECT_OK(ConvPair(problem.Arguments(), config, nullptr));
      const std::vector<TypeParam> y = problem.y.Download();
      if (first.empty()) CheckPair(problem, first = y);
      EXPECT_TRUE(SameBits(y, first)) << "the cut changes the result";
      if (!this->HasFailure()) continue;
      FAIL() << pair_case.F_in << " frequencies, " << pair_case.C << " channels, in blocks of " << config.channels
             << " x " << config.positions;
    }
  }
}

// Several tiles a block, and every cut for each batch.
TYPED_TEST(ConvPairTest, BitsOfASequenceAreItsOwn) {
  const PairProblem<TypeParam> alone({{500}});
  EXPECT_OK(ConvPair(alone.Arguments(), nullptr));
  std::vector<TypeParam> expected = alone.y.Download();
  expected.resize(static_cast<size_t>(alone.out.back() * alone.F_out() * 256));
  for (const int copies : {2, 7, 40}) {
    PairCase batch{{500, 23}};
    batch.frames.insert(batch.frames.end(), copies, 611);
    const PairProblem<TypeParam> problem(batch);  // its first 500 frames are those of `alone`
    for (const ConvPairConfig& config : kConvPairConfigs) {
      if (!TakeCase()) continue;
      for (int run = 0; run < 3; ++run) EXPECT_OK(ConvPair(problem.Arguments(), config, nullptr));
      std::vector<TypeParam> y = problem.y.Download();
      EXPECT_FALSE(std::any_of(y.begin(), y.begin() + problem.out.back() * problem.F_out() * 256, IsPoison<TypeParam>));
      y.resize(expected.size());
      EXPECT_TRUE(SameBits(y, expected)) << copies << " neighbours change the result";
    }
  }
}

TYPED_TEST(ConvPairTest, AgreesWithGeneric) {
  const PairProblem<TypeParam> problem(Awkward());
  const ConvPairArguments a = problem.Arguments();
  EXPECT_OK(ConvPair(a, nullptr));
  std::vector<int32_t> middle = {0};
  for (size_t b = 0; b + 1 < problem.in.size(); ++b) {
    middle.push_back(middle.back() + std::max(0, (problem.in[b + 1] - problem.in[b] - 1) / 2));
  }
  const DeviceArray<int32_t> device_middle(middle);
  const DeviceArray<TypeParam> between(static_cast<size_t>(middle.back() * a.F1() * a.C)), y(problem.y.size());
  ConvArguments first;
  first.storage = a.storage, first.F_in = a.F_in, first.C_out = a.C, first.B = a.B;
  first.features = a.features, first.mean = a.mean, first.istd = a.istd;
  first.in_offsets = a.in_offsets, first.out_offsets = device_middle.data(), first.max_rows_out = middle.back();
  first.weight = a.weight[0], first.bias = a.bias[0], first.y = between.data();
  EXPECT_OK(ConvGeneric(first, nullptr));
  ConvArguments second = first;
  second.features = second.mean = second.istd = nullptr;
  second.x = between.data(), second.F_in = a.F1(), second.C_in = a.C;
  second.in_offsets = device_middle.data(), second.out_offsets = a.out_offsets, second.max_rows_out = a.max_rows_out;
  second.weight = a.weight[1], second.bias = a.bias[1], second.y = y.data();
  EXPECT_OK(ConvGeneric(second, nullptr));
  const std::vector<TypeParam> expected = y.Download(), actual = problem.y.Download();
  double error = 0, norm = 0;
  for (size_t i = 0; i < static_cast<size_t>(problem.out.back() * a.F_out() * a.C); ++i) {
    const double difference = HostDouble(actual[i]) - HostDouble(expected[i]);
    error += difference * difference, norm += HostDouble(expected[i]) * HostDouble(expected[i]);
  }
  EXPECT_GT(norm, 0);
  EXPECT_LT(std::sqrt(error / norm), RoundingError<TypeParam>());
}

TYPED_TEST(ConvPairTest, NothingToDo) {
  const PairProblem<TypeParam> problem({{5, 2}, 80, 256, true, 3});
  EXPECT_OK(ConvPair(problem.Arguments(), nullptr));
  const std::vector<TypeParam> y = problem.y.Download();
  EXPECT_TRUE(std::all_of(y.begin(), y.end(), IsPoison<TypeParam>));
  ConvPairArguments a = problem.Arguments();
  a.B = 0;
  EXPECT_OK(ConvPair(a, nullptr));
}

TEST(ConvPairSupportTest, RefusesWithAReason) {
  TING_SKIP_WITHOUT_HOPPER();
  EXPECT_OK(SupportsConvPair(DType::kBF16, 256, 80));
  for (const auto& [storage, C, F_in] :
       {std::tuple(DType::kF32, 256, 80), {DType::kF16, 144, 80}, {DType::kF16, 576, 80}, {DType::kF16, 256, 18}}) {
    EXPECT_EQ(SupportsConvPair(storage, C, F_in).code(), StatusCode::kUnimplemented);
  }
}

}  // namespace
}  // namespace ting::cuda
