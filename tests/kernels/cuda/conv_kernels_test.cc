// tests/kernels/cuda/conv_kernels_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The convolutions of the subsampling against double loops over the same rounded operands.
#include "kernels/cuda/conv_kernels.h"

#include <cmath>

#include "tests/kernels/cuda/gemm_testing.h"

namespace ting::cuda {
namespace {

struct Stage {
  int kernel = 3, stride = 2;
  int64_t F_in = 80, C_in = 1, C_out = 256;
  bool features = true, cmvn = true;
  std::vector<int> frames = {57, 3, 130};  // of each sequence
};

std::vector<int32_t> Offsets(const std::vector<int>& lengths) {
  std::vector<int32_t> offsets = {0};
  for (const int length : lengths) offsets.push_back(offsets.back() + length);
  return offsets;
}
std::vector<int> OutputRows(const Stage& stage) {
  std::vector<int> rows;
  for (const int frames : stage.frames) rows.push_back((frames - stage.kernel) / stage.stride + 1);
  return rows;
}

template <typename T>
class Convolution {
 public:
  explicit Convolution(const Stage& stage)
      : s(stage),
        in_(Offsets(s.frames)),
        out_(Offsets(OutputRows(s))),
        x_(RandomFloats(in_.back() * s.F_in * s.C_in, s.features ? 4 : 1, 1, s.features ? 8 : 0.3F)),
        w_(RoundedAll<T>(RandomFloats(s.C_out * Depth(), 2 / std::sqrt(static_cast<float>(Depth())), 2))),
        bias_(RandomFloats(s.C_out, 0.5F, 3)),
        mean_(RandomFloats(s.F_in, 2, 4, 8)),
        istd_(RandomFloats(s.F_in, 0.1F, 5, 0.4F)),
        device_in_(in_),
        device_out_(out_),
        device_xf_(x_),
        device_x_(RoundedAll<T>(x_)),
        device_w_(w_),
        device_bias_(bias_),
        device_mean_(mean_),
        device_istd_(istd_) {}

  int64_t Depth() const { return s.kernel * s.kernel * s.C_in; }
  ConvArguments Arguments() const {
    ConvArguments a;
    a.storage = DTypeOf<T>();
    a.kernel = s.kernel, a.stride = s.stride, a.F_in = s.F_in, a.C_in = s.C_in, a.C_out = s.C_out;
    if (s.features) a.features = device_xf_.data();
    if (!s.features) a.x = device_x_.data();
    if (s.cmvn) a.mean = device_mean_.data(), a.istd = device_istd_.data();
    a.B = static_cast<int64_t>(s.frames.size());
    a.in_offsets = device_in_.data(), a.out_offsets = device_out_.data();
    a.max_rows_out = out_.back() + 10;
    a.weight = device_w_.data(), a.bias = device_bias_.data();
    return a;
  }

  std::vector<T> Run(Status (*convolve)(const ConvArguments&, cudaStream_t)) const {
    ConvArguments a = Arguments();
    const size_t row = static_cast<size_t>(a.F_out() * s.C_out);
    DeviceArray<T> y(static_cast<size_t>(a.max_rows_out) * row);
    a.y = y.data();
    EXPECT_OK(convolve(a, nullptr));
    std::vector<T> values = y.Download();
    const size_t written = static_cast<size_t>(out_.back()) * row;
    EXPECT_TRUE(std::all_of(values.begin() + written, values.end(), IsPoison<T>))
        << "rows beyond the last were written";
    values.resize(written);
    return values;
  }

  void Check(const std::vector<T>& y) const {
    const int64_t F_out = (s.F_in - s.kernel) / s.stride + 1;
    for (size_t b = 0; b < s.frames.size(); ++b) {
      for (int64_t t = 0; t < out_[b + 1] - out_[b]; ++t) {
        for (int64_t f = 0; f < F_out; ++f) {
          const bool edge = t < 2 || t + 2 >= out_[b + 1] - out_[b] || f == 0 || f + 1 == F_out || (t + f) % 7 == 0;
          if (!edge) continue;
          const T* row = &y[static_cast<size_t>(((out_[b] + t) * F_out + f) * s.C_out)];
          CheckPosition(in_[b] + t * s.stride, f * s.stride, row);
          if (::testing::Test::HasFailure()) {
            ADD_FAILURE() << "sequence " << b << ", row " << t << ", frequency " << f;
            return;
          }
        }
      }
    }
  }

  const Stage s;

 private:
  double Input(int64_t row, int64_t f, int64_t c) const {
    const float v = x_[static_cast<size_t>((row * s.F_in + f) * s.C_in + c)];
    if (!s.features) return HostDouble(Rounded<T>(v));
    return s.cmvn ? (static_cast<double>(v) - mean_[f]) * istd_[f] : v;
  }
  void CheckPosition(int64_t row, int64_t f, const T* y) const {
    std::vector<double> patch;
    for (int64_t i = 0; i < s.kernel; ++i) {
      for (int64_t j = 0; j < s.kernel; ++j) {
        for (int64_t c = 0; c < s.C_in; ++c) patch.push_back(Input(row + i, f + j, c));
      }
    }
    for (int64_t c = 0; c < s.C_out; ++c) {
      double sum = bias_[c], size = std::abs(sum);
      for (int64_t k = 0; k < Depth(); ++k) {
        const double product = patch[k] * HostDouble(w_[c * Depth() + k]);
        sum += product, size += std::abs(product);
      }
      const double expected = std::max(sum, 0.0);
      ASSERT_NEAR(HostDouble(y[c]), expected, 3e-6 * size + (RoundingError<T>() + 1e-6) * expected + 1e-7)
          << "channel " << c;
    }
  }

  std::vector<int32_t> in_, out_;
  std::vector<float> x_;
  std::vector<T> w_;
  std::vector<float> bias_, mean_, istd_;
  DeviceArray<int32_t> device_in_, device_out_;
  DeviceArray<float> device_xf_;
  DeviceArray<T> device_x_, device_w_;
  DeviceArray<float> device_bias_, device_mean_, device_istd_;
};

template <typename T>
class ConvTest : public ::testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_GPU(); }
};
using Storages = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(ConvTest, Storages);

TYPED_TEST(ConvTest, GenericFirstStage) {
  for (const bool cmvn : {true, false}) {
    Stage stage;
    stage.cmvn = cmvn;
    const Convolution<TypeParam> convolution(stage);
    convolution.Check(convolution.Run(ConvGeneric));
  }
}

TYPED_TEST(ConvTest, GenericLaterStages) {
  for (const auto& [kernel, stride] : {std::pair(3, 2), {3, 1}, {5, 3}}) {
    Stage stage{kernel, stride, 39, 16, 72, false, false, {31, 5, 64, 6}};
    const Convolution<TypeParam> convolution(stage);
    convolution.Check(convolution.Run(ConvGeneric));
  }
  Stage stage{3, 2, 9, 3, 5, false, false, {7}};
  const Convolution<TypeParam> convolution(stage);
  convolution.Check(convolution.Run(ConvGeneric));
}

TYPED_TEST(ConvTest, EmptySequencesAndBatches) {
  Stage stage;
  stage.frames = {1, 9, 1, 1, 5, 1};  // one frame gives (1 - 3) / 2 + 1 = 0 rows
  const Convolution<TypeParam> convolution(stage);
  convolution.Check(convolution.Run(ConvGeneric));
  ConvArguments a = convolution.Arguments();
  a.B = 0;
  EXPECT_OK(ConvGeneric(a, nullptr));
  a.storage = DType::kS8;
  EXPECT_EQ(ConvGeneric(a, nullptr).code(), StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace ting::cuda
