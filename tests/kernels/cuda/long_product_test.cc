// tests/kernels/cuda/long_product_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// long_product against double loops over the same rounded operands, and its promises: bits that depend on the split
// alone; rows and columns beyond the end untouched.
#include "kernels/cuda/long_product.h"

#include <algorithm>
#include <cmath>

#include "tests/kernels/cuda/gemm_testing.h"

namespace ting::cuda {
namespace {

constexpr int64_t kPadding = 4;  // columns of y that belong to nobody

struct Problem {
  int64_t M, N, K;
  int64_t valid = -1;  // rows, as a device value; -1: none given
  bool bias = true;
  float scale = 1;

  int64_t rows() const { return valid < 0 ? M : std::min(valid, M); }
};

template <typename T>
class Product {
 public:
  explicit Product(const Problem& problem)
      : p(problem),
        x_(Floats(RoundedAll<T>(RandomFloats(static_cast<size_t>(p.M * p.K), 1, 1)))),
        w_(Floats(
            RoundedAll<T>(RandomFloats(static_cast<size_t>(p.N * p.K), 2 / std::sqrt(static_cast<float>(p.K)), 2)))),
        bias_(RandomFloats(static_cast<size_t>(p.N), 0.5F, 3)),
        device_x_(RoundedAll<T>(x_)),
        device_w_(RoundedAll<T>(w_)),
        device_bias_(bias_),
        device_rows_(std::vector<int32_t>{static_cast<int32_t>(p.valid)}) {}

  RowGemmArguments Arguments() const {
    RowGemmArguments a;
    a.type = DTypeOf<T>();
    a.M = p.M, a.N = p.N, a.K = a.x_stride = p.K;
    if (p.valid >= 0) a.num_rows = device_rows_.data();
    a.x = device_x_.data(), a.weight = device_w_.data();
    if (p.bias) a.bias = device_bias_.data();
    a.output = RowGemmOutput::kFloat, a.scale = p.scale;
    a.y_stride = p.N + kPadding;
    return a;
  }

  // The rows that there are, without padding.
  template <typename Run>
  std::vector<float> Result(const Run& run) const {
    DeviceArray<float> y(static_cast<size_t>(p.M * (p.N + kPadding)));
    RowGemmArguments a = Arguments();
    a.y = y.data();
    EXPECT_OK(run(a));
    const std::vector<float> all = y.Download();
    std::vector<float> values;
    size_t damaged = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(all.size()); ++i) {
      const bool ours = i / (p.N + kPadding) < p.rows() && i % (p.N + kPadding) < p.N;
      if (ours) values.push_back(all[i]);
      damaged += !ours && !IsPoison(all[i]);
    }
    EXPECT_EQ(damaged, 0U) << "elements beyond the valid rows or columns were written";
    return values;
  }
  std::vector<float> Run(const LongProductConfig& c) const {
    return Result([&](const RowGemmArguments& a) { return LongProduct(a, c, nullptr); });
  }

  // Against sums in double, of the rows at the edges of tiles if there are many.
  void Check(const std::vector<float>& y) {
    if (expected_.empty()) Expect();
    int failures = 0;
    for (const Element& e : expected_) {
      const double got = y[e.index];
      if (!(std::abs(got - e.value) <= e.bound) && failures++ < 5) {
        ADD_FAILURE() << "row " << e.index / p.N << " column " << e.index % p.N << ": " << got << ", expected "
                      << e.value;
      }
    }
  }

  const Problem p;

 private:
  struct Element {
    int64_t index;
    double value, bound;
  };
  void Expect() {
    for (int64_t row = 0; row < p.rows(); ++row) {
      if (p.M > 130 && row % 64 > 1 && row % 64 < 62 && row < p.rows() - 1) continue;
      for (int64_t n = 0; n < p.N; ++n) {
        double sum = p.bias ? bias_[n] : 0, size = std::abs(sum);
        for (int64_t k = 0; k < p.K; ++k) {
          const double product = double{x_[row * p.K + k]} * w_[n * p.K + k];
          sum += product, size += std::abs(product);
        }
        expected_.push_back({row * p.N + n, p.scale * sum, 2e-6 * std::abs(p.scale) * size});
      }
    }
  }

  std::vector<float> x_, w_;  // rounded
  std::vector<float> bias_;
  std::vector<Element> expected_;
  DeviceArray<T> device_x_, device_w_;
  DeviceArray<float> device_bias_;
  DeviceArray<int32_t> device_rows_;
};

std::vector<LongProductConfig> Configs(int64_t N, int split) {
  std::vector<LongProductConfig> configs;
  for (const auto& [groups, columns] : {std::pair(2, 256), {2, 128}, {1, 128}}) {
    if (N % columns == 0) configs.push_back({groups, columns, split});
  }
  return configs;
}
std::string Name(const LongProductConfig& c) {
  return std::to_string(64 * c.groups) + " x " + std::to_string(c.columns) + ", split " + std::to_string(c.split);
}

template <typename T>
void CheckAll(const Problem& problem) {
  SCOPED_TRACE("[" + std::to_string(problem.M) + ", " + std::to_string(problem.K) + "] x " + std::to_string(problem.N));
  Product<T> product(problem);
  for (const int split : {1, 2, 3}) {
    std::vector<float> first;
    for (const LongProductConfig& config : Configs(problem.N, split)) {
      const std::vector<float> y = product.Run(config);
      if (first.empty()) product.Check(first = y);
      EXPECT_EQ(y, first) << Name(config);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

class LongProductTest : public ::testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_HOPPER(); }
};

TEST_F(LongProductTest, EveryCutForEveryNumberOfRows) {
  for (const int64_t M : {1, 63, 64, 65, 124, 128, 129, 257}) CheckAll<__half>({M, 256, 4864});
  for (const int64_t M : {1, 124, 300}) CheckAll<__nv_bfloat16>({M, 256, 4864});
}

TEST_F(LongProductTest, ShapesOfOtherModels) {
  CheckAll<__half>({124, 512, 9728});
  CheckAll<__half>({70, 128, 576});
  CheckAll<__half>({200, 256, 640});  // segments of three tiles and of four
  CheckAll<__half>({140, 128, 1088});
  CheckAll<__nv_bfloat16>({200, 384, 2560});
  Problem p{200, 256, 4864};
  p.bias = false, p.scale = 16;
  CheckAll<__half>(p);
}

TEST_F(LongProductTest, RowsBeyondTheDeviceCountAreUntouched) {
  for (const int64_t valid : {0, 1, 64, 65, 128, 130, 256, 300, 400}) {
    Problem p{300, 256, 4864};
    p.valid = valid;
    CheckAll<__half>(p);
  }
}

TEST_F(LongProductTest, RefusesWithAReason) {
  const Product<__half> product({64, 256, 4864});
  DeviceArray<float> y(64 * 260);
  RowGemmArguments a = product.Arguments();
  a.y = y.data();
  EXPECT_OK(SupportsLongProduct(a));
  EXPECT_OK(SupportsLongProduct(a, {2, 256, 2}));
  EXPECT_FALSE(SupportsLongProduct(a, {2, 64, 2}).ok());
  EXPECT_FALSE(SupportsLongProduct(a, {2, 256, 4}).ok());
  a.N = 384;
  EXPECT_OK(SupportsLongProduct(a));
  EXPECT_FALSE(SupportsLongProduct(a, {2, 256, 2}).ok());
  a.N = 192;
  EXPECT_FALSE(SupportsLongProduct(a).ok());
  a.N = 256, a.residual = y.data();
  EXPECT_EQ(SupportsLongProduct(a).code(), StatusCode::kUnimplemented);
  a.residual = nullptr, a.y_stride = 258;
  EXPECT_EQ(SupportsLongProduct(a).code(), StatusCode::kUnimplemented);
  a.y_stride = 260, a.K = 256;
  EXPECT_EQ(SupportsLongProduct(a).code(), StatusCode::kUnimplemented);
  a.K = 4864, a.type = DType::kF32;
  EXPECT_EQ(SupportsLongProduct(a).code(), StatusCode::kUnimplemented);
}

// Cuts that measured fast in steps of a model's 8 to 128 utterances of 5 s (H100).
TEST(LongProductChoice, TakesWhatMeasuredFast) {
  RowGemmArguments a;
  a.N = 256, a.K = 4864;
  const std::pair<int64_t, const char*> lines[] = {{1024, "64 x 128, split 3"},
                                                   {2048, "128 x 128, split 3"},
                                                   {4096, "128 x 128, split 2"},
                                                   {8192, "128 x 256, split 2"},
                                                   {16384, "128 x 256, split 1"}};
  for (const auto& [rows, fast] : lines) {
    a.M = rows;
    EXPECT_TRUE(PrefersLongProduct(a));
    EXPECT_EQ(Name(ChooseLongProduct(a, 132)), fast) << rows << " rows";
  }
  a.M = 512;
  EXPECT_FALSE(PrefersLongProduct(a));
}

// With instruction caches as a model leaves them, but x not from the kernel before: steps of 1 to 64 utterances of 124
// rows in the chosen cut and in others that fill the device; row_gemm beside them. What evicts the caches leaves few
// multiprocessors free, so that figures of more than about 100 blocks are too large: trace a model for those.
TEST(LongProductBench, Cuts) {
  TING_SKIP_WITHOUT_HOPPER();
  constexpr int kLaunches = 20;
  const double evict = GraphMicroseconds(kLaunches, [](int, cudaStream_t stream) { return EvictCode(stream); });
  for (const int batch : {1, 2, 4, 8, 16, 32, 64}) {
    const Product<__half> product({batch * 124, 256, 4864});
    const DeviceArray<float> y(static_cast<size_t>(batch * 124 * 260));
    const auto time = [&](const auto& run) {
      const auto launch = [&](int, cudaStream_t stream) {
        EXPECT_OK(EvictCode(stream));
        RowGemmArguments a = product.Arguments();
        a.y = y.data(), a.dependent = true;
        return run(a, stream);
      };
      return GraphMicroseconds(kLaunches, launch) - evict;
    };
    std::printf("batch %3d: row_gemm %.1f; chosen %s;", batch, time([](auto& a, auto s) { return RowGemm(a, s); }),
                Name(ChooseLongProduct(product.Arguments(), 132)).c_str());
    for (const int split : {1, 2, 3}) {
      for (const LongProductConfig& c : Configs(256, split)) {
        const int64_t blocks = (product.p.M + 64 * c.groups - 1) / (64 * c.groups) * split * 256 / c.columns;
        if (blocks > 132 || blocks < 30) continue;
        std::printf(" %s %.1f;", Name(c).c_str(), time([&](auto& a, auto s) { return LongProduct(a, c, s); }));
      }
    }
    std::printf("\n");
  }
}

}  // namespace
}  // namespace ting::cuda
