// tests/kernels/cuda/row_gemm_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// row_gemm against double loops over the same rounded operands, and its promises: equal bits for every way of cutting a
// product, rows and columns beyond the end untouched.
#include "kernels/cuda/row_gemm.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include "tests/kernels/cuda/gemm_testing.h"
#include "tests/support/take_case.h"

namespace ting::cuda {
namespace {

struct Problem {
  int64_t M, N, K;
  bool float_rows = false, norm = false, bias = true, residual = false;
  RowGemmOutput output = RowGemmOutput::kHalf;
  Activation activation = Activation::kNone;
  float scale = 1;
  int64_t valid = -1;   // rows, as a device value; -1: none given
  int64_t padding = 8;  // columns of y that belong to nobody

  int64_t rows() const { return valid < 0 ? M : valid; }
  int64_t columns() const { return output == RowGemmOutput::kGlu ? N / 2 : N; }
};

double ActivateDouble(Activation activation, double v) {
  if (activation == Activation::kRelu) return std::max(v, 0.0);
  if (activation == Activation::kSwish) return v / (1 + std::exp(-v));
  if (activation == Activation::kGelu) return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
  return v;
}

template <typename T>
class Product {
 public:
  explicit Product(const Problem& problem)
      : p(problem),
        x_(RandomFloats(p.M * p.K, 1, 1, p.norm ? 0.3F : 0)),
        w_(RoundedAll<T>(RandomFloats(p.N * p.K, 2 / std::sqrt(static_cast<float>(p.K)), 2))),
        bias_(RandomFloats(p.N, 0.5F, 3)),
        gamma_(RandomFloats(p.K, 0.5F, 4, 1)),
        beta_(RandomFloats(p.K, 0.2F, 5)),
        residual_(RandomFloats(p.M * (p.columns() + p.padding), 1, 6)),
        device_x_(RoundedAll<T>(x_)),
        device_xf_(x_),
        device_w_(w_),
        device_bias_(bias_),
        device_gamma_(gamma_),
        device_beta_(beta_),
        device_residual_(residual_),
        device_rows_(std::vector<int32_t>{static_cast<int32_t>(p.rows())}) {}

  RowGemmArguments Arguments() {
    RowGemmArguments a;
    a.type = DTypeOf<T>();
    a.M = p.M, a.N = p.N, a.K = p.K;
    if (p.valid >= 0) a.num_rows = device_rows_.data();
    if (p.float_rows) a.x_f32 = device_xf_.data();
    if (!p.float_rows) a.x = device_x_.data();
    a.x_stride = p.K;
    if (p.norm) a.gamma = device_gamma_.data(), a.beta = device_beta_.data();
    a.weight = device_w_.data();
    if (p.bias) a.bias = device_bias_.data();
    a.output = p.output, a.activation = p.activation, a.scale = p.scale;
    a.y_stride = a.residual_stride = p.columns() + p.padding;
    if (p.residual) a.residual = device_residual_.data();
    return a;
  }

  // y with its padding, as doubles.
  template <typename Y>
  std::vector<double> RunAs(std::optional<RowGemmConfig> config) {
    DeviceArray<Y> y(static_cast<size_t>(p.M * (p.columns() + p.padding)));
    RowGemmArguments a = Arguments();
    a.y = y.data();
    EXPECT_OK(config ? RowGemm(a, *config, nullptr) : RowGemm(a, nullptr));
    const std::vector<Y> result = y.Download();
    std::vector<double> values(result.size());
    size_t damaged = 0;
    for (size_t i = 0; i < result.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / (p.columns() + p.padding);
      const int64_t column = static_cast<int64_t>(i) % (p.columns() + p.padding);
      const bool ours = row < p.rows() && column < p.columns();
      damaged += !ours && !IsPoison(result[i]);
      values[i] = ours ? HostDouble(result[i]) : 0;
    }
    EXPECT_EQ(damaged, 0U) << "elements beyond the valid rows or columns were written";
    return values;
  }
  std::vector<double> Run(std::optional<RowGemmConfig> config = {}) {
    return p.output == RowGemmOutput::kFloat ? RunAs<float>(config) : RunAs<T>(config);
  }

  void Check(const std::vector<double>& y) const {
    double worst = 0;
    for (int64_t row = 0; row < p.rows(); ++row) {
      const bool edge = row % 64 < 2 || row % 64 > 62 || row % 16 == 9 || row == p.rows() - 1;
      if (p.M > 130 && (!edge || (row > 200 && row < p.rows() - 70))) continue;
      CheckRow(row, &y[static_cast<size_t>(row * (p.columns() + p.padding))], &worst);
    }
    EXPECT_LE(worst, 1) << "error over its bound, worst element";
  }

  const Problem p;

 private:
  std::vector<double> Operand(int64_t row) const {
    std::vector<double> v(x_.begin() + row * p.K, x_.begin() + (row + 1) * p.K);
    if (p.norm) {
      double mean = 0, variance = 0;
      for (const double e : v) mean += e / static_cast<double>(p.K);
      for (const double e : v) variance += (e - mean) * (e - mean) / static_cast<double>(p.K);
      for (int64_t k = 0; k < p.K; ++k) v[k] = (v[k] - mean) / std::sqrt(variance + 1e-5) * gamma_[k] + beta_[k];
    }
    for (double& e : v) e = HostDouble(Rounded<T>(static_cast<float>(e)));
    return v;
  }
  // acc + bias of GEMM column n, and the error it may have: f32 sums, and with a norm operands that fell to the other
  // side of a rounding.
  std::pair<double, double> Column(const std::vector<double>& a, int64_t n) const {
    double sum = p.bias ? bias_[n] : 0, size = std::abs(sum), largest = 0;
    for (int64_t k = 0; k < p.K; ++k) {
      const double product = a[k] * HostDouble(w_[n * p.K + k]);
      sum += product, size += std::abs(product), largest = std::max(largest, std::abs(product));
    }
    return {sum, 2e-6 * size + (p.norm ? 6 * RoundingError<T>() * largest : 0)};
  }
  void CheckRow(int64_t row, const double* y, double* worst) const {
    const std::vector<double> a = Operand(row);
    for (int64_t n = 0; n < p.columns(); ++n) {
      double expected = 0, bound = 0;
      if (p.output == RowGemmOutput::kGlu) {
        const auto [left, left_error] = Column(a, n / 8 * 16 + n % 8);
        const auto [gate, gate_error] = Column(a, n / 8 * 16 + 8 + n % 8);
        expected = left / (1 + std::exp(-gate)), bound = left_error + std::abs(left) * gate_error;
      } else {
        std::tie(expected, bound) = Column(a, n);
        expected = ActivateDouble(p.activation, expected), bound *= 1.2;
      }
      if (p.output == RowGemmOutput::kFloat) {
        expected *= p.scale, bound *= std::abs(p.scale);
        if (p.residual) expected += residual_[row * (p.columns() + p.padding) + n];
        bound += 1e-6 * std::abs(expected);
      } else {
        bound += (RoundingError<T>() + 1e-5) * std::abs(expected) + 1e-7;
      }
      const double error = std::abs(y[n] - expected) / bound;
      if (!(error <= *worst)) *worst = std::isnan(error) ? 1e30 : error;
      if (!(error <= 1) && failures_++ < 5) {
        ADD_FAILURE() << "row " << row << " column " << n << ": " << y[n] << ", expected " << expected;
      }
    }
  }

  std::vector<float> x_;
  std::vector<T> w_;
  std::vector<float> bias_, gamma_, beta_, residual_;
  DeviceArray<T> device_x_;
  DeviceArray<float> device_xf_;
  DeviceArray<T> device_w_;
  DeviceArray<float> device_bias_, device_gamma_, device_beta_, device_residual_;
  DeviceArray<int32_t> device_rows_;
  mutable int failures_ = 0;
};

// Those of the weight-stationary form, with blocks of few and of many rows, or with tiles of few and of many.
void AddStationaryConfigs(const Problem& p, std::vector<RowGemmConfig>& configs) {
  if (p.K != 256 || p.N % 256 != 0 || p.activation != Activation::kNone) return;
  if (p.output == RowGemmOutput::kFloat) {
    if (p.float_rows || p.padding % 4 != 0) return;
    for (const int rows : {1, 17, 32, 63, 86, 300, 992}) {
      if (rows >= 17 || p.M < 200) configs.push_back({4, 64, 4, 1, 1, rows});
    }
  } else if (p.float_rows) {
    for (const int rows : {8, 24, 56, 64}) configs.push_back({4, 64, 4, 1, 1, rows});
  }
}

std::vector<RowGemmConfig> AllConfigs(const Problem& p) {
  std::vector<RowGemmConfig> configs;
  for (RowGemmConfig config : {RowGemmConfig{1, 32}, {2, 32}, {1, 64}, {2, 64}, {1, 128}, {2, 128}}) {
    if (p.output == RowGemmOutput::kGlu && config.tile_n == 32) continue;
    if (p.K > 512 && config.groups == 2 && config.tile_n < 128) continue;
    const int64_t tiles = (p.N + config.tile_n - 1) / config.tile_n;
    for (const int64_t per_block : std::set<int64_t>{1, p.K > 512 ? 1 : (tiles + 1) / 2, p.K > 512 ? 1 : tiles}) {
      config.tiles_per_block = static_cast<int>(per_block);
      for (config.share = 1; config.share <= 2; ++config.share) configs.push_back(config);
      config.share = 1;
      if (p.K > 512 || (p.float_rows && p.K > 256)) continue;
      for (config.rows = 16; config.rows <= 32; config.rows *= 2) configs.push_back(config);
      config.share = 2, config.rows = 16;
      configs.push_back(config);
      config.share = 1, config.rows = 64;
    }
    if (p.K <= 512) continue;
    config.split = RowGemmSegments(p.K);
    configs.push_back(config);
  }
  AddStationaryConfigs(p, configs);
  return configs;
}

std::string Name(const RowGemmConfig& c) {
  return std::to_string(c.groups) + " groups, " + std::to_string(c.rows) + " rows, " +
         std::to_string(c.tiles_per_block) + " * " + std::to_string(c.tile_n) + ", split " + std::to_string(c.split) +
         ", share " + std::to_string(c.share);
}

// Every configuration gives the same bits; those are right.
template <typename T>
void CheckAllConfigs(const Problem& problem) {
  SCOPED_TRACE("[" + std::to_string(problem.M) + ", " + std::to_string(problem.K) + "] x " + std::to_string(problem.N));
  Product<T> product(problem);
  const std::vector<double> chosen = product.Run();
  product.Check(chosen);
  for (const RowGemmConfig& config : AllConfigs(problem)) {
    if (!TakeCase()) continue;
    EXPECT_EQ(product.Run(config), chosen) << Name(config);
    if (::testing::Test::HasFailure()) return;
  }
}

class RowGemmTest : public ::testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_HOPPER(); }
};

TEST_F(RowGemmTest, HalfOutputForEveryShape) {
  for (const int64_t K : {64, 192, 256, 512}) CheckAllConfigs<__half>({65, 96, K});
  for (const int64_t M : {1, 63, 64, 65, 124, 129, 992}) CheckAllConfigs<__half>({M, 768, 256});
  for (const int64_t M : {1, 124}) CheckAllConfigs<__nv_bfloat16>({M, 512, 256});
  CheckAllConfigs<__half>({2, 40, 64});
}

TEST_F(RowGemmTest, LongSumsWithAndWithoutSplit) {
  for (const int64_t M : {1, 63, 124, 129}) {
    CheckAllConfigs<__half>({M, 256, 4864});
    CheckAllConfigs<__nv_bfloat16>({M, 256, 2048});
  }
  CheckAllConfigs<__half>({124, 96, 576});
  Problem p{124, 256, 2048};
  p.output = RowGemmOutput::kFloat, p.residual = true, p.scale = 0.5F;
  CheckAllConfigs<__half>(p);
  p.valid = 70, p.N = 100;
  CheckAllConfigs<__half>(p);
}

TEST_F(RowGemmTest, Activations) {
  for (const Activation activation : {Activation::kRelu, Activation::kSwish, Activation::kGelu}) {
    Problem p{124, 256, 256};
    p.activation = activation;
    CheckAllConfigs<__half>(p);
    CheckAllConfigs<__nv_bfloat16>(p);
    p.K = 2048;
    CheckAllConfigs<__half>(p);
  }
}

TEST_F(RowGemmTest, LayerNormBefore) {
  for (const int64_t M : {1, 63, 64, 65, 124, 129, 992}) {
    for (const int64_t K : {256, 512}) {
      Problem p{M, 768, K};
      p.float_rows = p.norm = true;
      CheckAllConfigs<__half>(p);
    }
  }
  Problem p{124, 256, 512};
  p.float_rows = p.norm = true;
  CheckAllConfigs<__nv_bfloat16>(p);
  p.norm = false;  // rounding alone
  for (const int64_t K : {256, 512}) {
    p.K = K;
    CheckAllConfigs<__nv_bfloat16>(p);
    CheckAllConfigs<__half>(p);
  }
}

TEST_F(RowGemmTest, Glu) {
  for (const int64_t M : {1, 65, 124, 129}) {
    Problem p{M, 512, 256};
    p.output = RowGemmOutput::kGlu, p.float_rows = p.norm = true;
    CheckAllConfigs<__half>(p);
    CheckAllConfigs<__nv_bfloat16>(p);
  }
  Problem p{124, 96, 512};
  p.output = RowGemmOutput::kGlu;
  CheckAllConfigs<__half>(p);
}

TEST_F(RowGemmTest, FloatOutputWithResidual) {
  for (const int64_t M : {1, 63, 64, 65, 124, 129, 992}) {
    Problem p{M, 256, 256};
    p.output = RowGemmOutput::kFloat, p.residual = true, p.scale = 0.5F;
    CheckAllConfigs<__half>(p);
  }
  Problem p{124, 512, 512};
  p.output = RowGemmOutput::kFloat, p.residual = true;
  CheckAllConfigs<__nv_bfloat16>(p);
  p.K = 256;
  CheckAllConfigs<__nv_bfloat16>(p);
  p.residual = false;
  CheckAllConfigs<__half>(p);
}

TEST_F(RowGemmTest, LogitsOfAnyWidth) {
  for (const int64_t padding : {0, 1, 7}) {  // row strides odd and even
    Problem p{65, 4233, 256};
    p.output = RowGemmOutput::kFloat, p.float_rows = p.norm = true, p.padding = padding;
    CheckAllConfigs<__half>(p);
  }
  Problem p{129, 100, 256};
  p.output = RowGemmOutput::kFloat, p.bias = false;
  CheckAllConfigs<__half>(p);
  p.N = 1;
  CheckAllConfigs<__half>(p);
  p.N = 4233, p.M = 992;
  CheckAllConfigs<__nv_bfloat16>(p);
}

TEST_F(RowGemmTest, RowsBeyondTheDeviceCountAreUntouched) {
  for (const int64_t valid : {0, 1, 64, 65, 100, 300, 400}) {
    Problem p{300, 256, 256};
    p.valid = std::min<int64_t>(valid, p.M);
    CheckAllConfigs<__half>(p);
    p.float_rows = p.norm = true;
    CheckAllConfigs<__half>(p);
    p.float_rows = p.norm = false, p.output = RowGemmOutput::kFloat, p.residual = true;
    CheckAllConfigs<__half>(p);
    p.output = RowGemmOutput::kHalf, p.residual = false, p.K = 2048;
    CheckAllConfigs<__half>(p);
  }
}

TEST_F(RowGemmTest, BitsOfARowDoNotDependOnTheNumberOfRows) {
  for (const int64_t K : {256, 2048, 4864}) {
    std::vector<double> all;
    for (const int64_t M : {3968, 992, 124, 65, 1}) {
      Problem p{M, 256, K};
      p.output = RowGemmOutput::kFloat, p.padding = 0;
      const std::vector<double> y = Product<__half>(p).Run();
      if (all.empty()) all = y;
      EXPECT_TRUE(std::equal(y.begin(), y.end(), all.begin())) << M << " rows, K = " << K;
    }
  }
}

// As in a model's largest steps.
TEST_F(RowGemmTest, RowsThatFillTheDevice) {
  for (const int64_t M : {7969, 10912, 11617}) {
    Problem p{M, 256, 256};
    p.valid = M - 33;
    for (const RowGemmOutput output : {RowGemmOutput::kHalf, RowGemmOutput::kGlu, RowGemmOutput::kFloat}) {
      if (!TakeCase()) continue;
      p.output = output, p.residual = output == RowGemmOutput::kFloat;
      p.float_rows = p.norm = output != RowGemmOutput::kFloat;
      Product<__half> product(p);
      const std::vector<double> other = product.Run(RowGemmConfig{1, 128, 2});
      product.Check(other);
      EXPECT_EQ(product.Run(), other) << M << " rows";
      for (const int rows : {8, 40, 64, 501}) {
        if (rows > 64 && output != RowGemmOutput::kFloat) continue;
        EXPECT_EQ(product.Run(RowGemmConfig{4, 64, 4, 1, 1, rows}), other) << M << " rows, " << rows;
      }
    }
  }
}

// The last columns in rows of another matrix, in a random order; the bits are those of a product that keeps them.
void CheckScatter(const Problem& p, int64_t first_column) {
  Product<__half> product(p);
  const std::vector<double> whole = product.Run();
  const int64_t width = p.N - first_column, y_stride = p.N + p.padding, stride = width + 8, places = p.M + 3;
  std::vector<int32_t> rows(places);
  std::iota(rows.begin(), rows.end(), 0);
  std::shuffle(rows.begin(), rows.end(), std::mt19937(7));
  const DeviceArray<int32_t> device_rows(rows);
  for (const RowGemmConfig& config : AllConfigs(p)) {
    if (!TakeCase()) continue;
    const DeviceArray<__half> y(p.M * y_stride), other(places * stride);
    RowGemmArguments a = product.Arguments();
    a.y = y.data(), a.scatter = {device_rows.data(), other.data(), stride, first_column};
    EXPECT_OK(RowGemm(a, config, nullptr));
    const std::vector<__half> kept = y.Download(), scattered = other.Download();
    size_t wrong = 0, written = 0;
    for (const __half& v : kept) written += !IsPoison(v);
    for (const __half& v : scattered) written += !IsPoison(v);
    for (int64_t i = 0; i < p.rows() * p.N; ++i) {
      const int64_t row = i / p.N, n = i % p.N;
      const __half& v = n < first_column ? kept[row * y_stride + n] : scattered[rows[row] * stride + n - first_column];
      wrong += !(HostDouble(v) == whole[row * y_stride + n]);
    }
    EXPECT_EQ(wrong, 0U) << Name(config);
    EXPECT_EQ(written, static_cast<size_t>(p.rows() * p.N)) << Name(config);
  }
}

TEST_F(RowGemmTest, ScattersItsLastColumns) {
  for (const int64_t M : {1, 63, 170, 300}) {
    for (const bool norm : {false, true}) {
      Problem p{M, 768, 256};
      p.float_rows = p.norm = norm, p.valid = M > 64 ? M - 5 : M;
      CheckScatter(p, 256);
    }
  }
  CheckScatter({65, 160, 512}, 128);
}

// A chain of products, each reading what the one before wrote: launched one after the other, dependently, and with all
// of them started as early as there is room.
TEST_F(RowGemmTest, DependentLaunchesSeeTheResultsBefore) {
  Problem p{200, 256, 256};
  p.padding = 0, p.activation = Activation::kSwish;
  Product<__half> product(p);
  std::vector<std::vector<__half>> results;
  for (const auto& [dependent, starts_next] :
       {std::pair(false, false), std::pair(true, false), std::pair(true, true)}) {
    DeviceArray<__half> y0(p.M * p.N), y1(p.M * p.N);
    RowGemmArguments a = product.Arguments();
    for (int i = 0; i < 20; ++i) {
      a.y = i % 2 == 0 ? y0.data() : y1.data();
      a.dependent = dependent && i > 0, a.starts_next = starts_next;
      EXPECT_OK(RowGemm(a, nullptr));
      a.x = a.y;
    }
    results.push_back(y1.Download());
  }
  for (const auto& result : results) {
    EXPECT_EQ(memcmp(results[0].data(), result.data(), result.size() * sizeof(__half)), 0);
  }
  EXPECT_FALSE(std::isnan(HostDouble(results[0][0])));
}

TEST_F(RowGemmTest, RefusesWithAReason) {
  Product<__half> product({64, 256, 256});
  DeviceArray<__half> y(64 * 264);
  RowGemmArguments a = product.Arguments();
  a.y = y.data();
  EXPECT_OK(SupportsRowGemm(a));
  a.K = 200;
  EXPECT_EQ(SupportsRowGemm(a).code(), StatusCode::kUnimplemented);
  a = product.Arguments(), a.N = 100, a.y = y.data();
  EXPECT_EQ(SupportsRowGemm(a).code(), StatusCode::kUnimplemented);
  a = product.Arguments(), a.y = y.data() + 1;
  EXPECT_EQ(SupportsRowGemm(a).code(), StatusCode::kUnimplemented);
  a = product.Arguments(), a.y = y.data(), a.scatter = {nullptr, y.data(), 264, 100};
  EXPECT_OK(SupportsRowGemm(a));
  int32_t row = 0;
  a.scatter.rows = &row;
  EXPECT_EQ(SupportsRowGemm(a).code(), StatusCode::kUnimplemented);
  a = product.Arguments(), a.y = y.data(), a.type = DType::kF32;
  EXPECT_EQ(SupportsRowGemm(a).code(), StatusCode::kUnimplemented);
  a = product.Arguments(), a.y = y.data(), a.x_f32 = a.residual;
  EXPECT_FALSE(SupportsRowGemm(a, {1, 48}).ok());
}

TEST_F(RowGemmTest, RefusesWeightStationaryWithAReason) {
  const RowGemmConfig config{4, 64, 4, 1, 1, 48};
  Problem problem{300, 256, 256};
  problem.float_rows = problem.norm = true;
  Product<__half> product(problem);
  DeviceArray<float> y(300 * 264);
  RowGemmArguments a = product.Arguments();
  a.y = y.data();
  EXPECT_OK(SupportsRowGemm(a, config));
  for (const int rows : {0, 44, 72}) EXPECT_FALSE(SupportsRowGemm(a, {4, 64, 4, 1, 1, rows}).ok()) << rows;
  EXPECT_FALSE(SupportsRowGemm(a, {4, 64, 2, 1, 1, 48}).ok());
  EXPECT_FALSE(SupportsRowGemm(a, {4, 64, 4, 1, 2, 48}).ok());
  a.activation = Activation::kRelu;
  EXPECT_OK(SupportsRowGemm(a));
  EXPECT_FALSE(SupportsRowGemm(a, config).ok());
  a.activation = Activation::kNone, a.output = RowGemmOutput::kFloat;
  EXPECT_FALSE(SupportsRowGemm(a, config).ok()) << "f32 rows for f32 output";
}

TEST_F(RowGemmTest, RefusesWeightStationaryFloatsWithAReason) {
  const RowGemmConfig config{4, 64, 4, 1, 1, 86};
  Product<__half> product({300, 256, 256});
  DeviceArray<float> y(300 * 264);
  RowGemmArguments a = product.Arguments();
  a.y = y.data();
  EXPECT_FALSE(SupportsRowGemm(a, {4, 64, 4, 1, 1, 48}).ok()) << "T rows for 16-bit output";
  a.output = RowGemmOutput::kFloat;
  EXPECT_OK(SupportsRowGemm(a, config));
  a.y_stride = 257;
  EXPECT_OK(SupportsRowGemm(a));
  EXPECT_FALSE(SupportsRowGemm(a, config).ok()) << "rows of y that do not start at 16 bytes";
  a.y_stride = 264, a.N = 192;
  EXPECT_FALSE(SupportsRowGemm(a, config).ok());
}

TEST(RowGemmChoice, CoversEveryColumnAndFillsTheDevice) {
  for (const int64_t M : {1, 124, 992, 7936, 31744}) {
    for (const int64_t N : {1, 256, 512, 768, 3072, 4233}) {
      for (const int64_t K : {64, 256, 512, 2048, 4864}) {
        RowGemmArguments a;
        a.M = M, a.N = N, a.K = K;
        a.output = RowGemmOutput::kFloat;
        const RowGemmConfig c = ChooseRowGemmConfig(a, 132);
        EXPECT_TRUE(c.split == 1 || c.split == RowGemmSegments(K));
        EXPECT_TRUE(K <= 512 || c.tiles_per_block == 1);
        EXPECT_LE(int64_t{c.tile_n} * (c.tiles_per_block - 1), N);
        const int rows = K > 512 ? 64 * c.groups : c.rows;
        const int64_t blocks =
            (M + rows - 1) / rows * ((N + c.tile_n * c.tiles_per_block - 1) / (c.tile_n * c.tiles_per_block));
        EXPECT_TRUE(M < 992 || N < 256 || blocks * c.split >= 30) << M << " x " << N << " x " << K << ": " << Name(c);
      }
    }
  }
}

// Configurations within a tenth of the fastest on an H200, by rows and shape; weight-stationary ones, and beside them
// those of rows that are normalised, on an H100.
TEST(RowGemmChoice, TakesWhatMeasuredFast) {
  struct Line {
    int64_t M, N, K;
    bool norm;
    std::set<std::string> fast;
  };
  const Line lines[] = {{124, 768, 256, true, {"4x64x4r8", "4x64x4r16", "4x64x4r32"}},
                        {124, 512, 256, true, {"4x64x4r8", "4x64x4r16", "4x64x4r32"}},
                        {124, 256, 256, false, {"1x32x1", "1x64x1"}},
                        {124, 256, 4864, false, {"1x64x1/"}},
                        {992, 768, 256, true, {"4x64x4", "4x64x4r48"}},
                        {992, 512, 256, true, {"4x64x4r32", "4x64x4r48"}},
                        {992, 256, 256, true, {"4x64x4r16", "4x64x4r32"}},
                        {992, 256, 256, false, {"1x32x1", "1x64x1"}},
                        {1984, 768, 256, true, {"4x64x4", "4x64x4r48"}},
                        {1984, 512, 256, true, {"4x64x4"}},
                        {1984, 256, 256, true, {"4x64x4r32", "4x64x4r48"}},
                        {1984, 256, 256, false, {"1x64x1", "1x32x1"}},
                        {1984, 256, 4864, false, {"1x64x1", "1x128x1"}},
                        {7936, 768, 256, true, {"4x64x4"}},
                        {7936, 512, 256, true, {"4x64x4"}},
                        {7936, 256, 256, true, {"4x64x4"}},
                        {7936, 256, 256, false, {"4x64x4r61"}},
                        {7936, 3072, 256, false, {"1x128x14", "1x128x12", "1x128x6"}},
                        {7936, 256, 4864, false, {"2x128x1"}},
                        {11264, 768, 256, true, {"4x64x4"}},
                        {11264, 256, 256, true, {"4x64x4r48"}},
                        {11264, 256, 256, false, {"4x64x4r86"}}};
  for (const Line& line : lines) {
    RowGemmArguments a;
    float x = 0;
    a.M = line.M, a.N = line.N, a.K = line.K, a.x_f32 = line.norm ? &x : nullptr;
    a.output = line.norm ? RowGemmOutput::kHalf : RowGemmOutput::kFloat;
    const RowGemmConfig c = ChooseRowGemmConfig(a, 132);
    const std::string name = std::to_string(c.groups) + "x" + std::to_string(c.tile_n) + "x" +
                             std::to_string(c.tiles_per_block) + (c.split > 1 ? "/" : "") +
                             (c.rows != 64 && c.split == 1 ? "r" + std::to_string(c.rows) : "");
    EXPECT_TRUE(line.fast.contains(name)) << line.M << " x " << line.N << " x " << line.K << ": " << name;
  }
}

TEST(RowGemmChoice, InterleavesGates) {
  std::vector<int> rows(32 * 2);
  for (int i = 0; i < 64; ++i) rows[i] = i;
  const std::vector<int> result = InterleaveGlu(rows.data(), 16, 2);
  EXPECT_EQ(result[0], 0);
  EXPECT_EQ(result[8 * 2 + 1], 33);      // row 8: the gate of channel 0
  EXPECT_EQ(result[16 * 2], 16);         // row 16: channel 8
  EXPECT_EQ(result[(16 + 15) * 2], 62);  // the last row: the gate of channel 15
}

}  // namespace
}  // namespace ting::cuda
