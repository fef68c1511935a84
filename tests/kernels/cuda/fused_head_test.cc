// tests/kernels/cuda/fused_head_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The fused head against its formula. Where logits are exact (small integers, or a bias alone) so must be the k best:
// bit for bit, for a log of the sum of exponentials near the true one. Random layers are compared with double loops
// over the same rounded operands. What it must not touch is poison: rows of x past the count, and the outputs.
#include "kernels/cuda/fused_head.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <set>

#include "tests/kernels/cuda/head_testing.h"
#include "tests/support/take_case.h"

namespace ting::cuda {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kNobody = 0x7FFFFFFF;

std::vector<FusedHeadConfig> AllConfigs(int64_t V, int64_t K) {
  const int segments = static_cast<int>((V + 127) / 128);
  std::vector<FusedHeadConfig> configs;
  for (const int row_groups : {1, 2, 3}) {
    if (K != 256 && row_groups > 1) continue;
    for (const int splits : std::set<int>{FusedHead::LeastSplits(V), std::min(2, segments), std::min(3, segments),
                                          std::max(segments / 2, 1), segments}) {
      if (splits < FusedHead::LeastSplits(V)) continue;
      for (const int sharing : {1, 2}) configs.push_back({row_groups, splits, sharing});
    }
  }
  return configs;
}

// What a call gave, with room for `padding` more rows (or targets) that must stay poison.
struct Ranked {
  std::vector<float> logp;  // [M, k]
  std::vector<int32_t> ids;
};

template <typename T>
class HeadRun {
 public:
  HeadRun(const HeadCase& c, const HeadValues& values) : case_(c), values_(values), device_(c, values) {}

  // The k best of the first `rows` rows in a step padded by `padding`.
  Ranked TopK(int64_t rows, int64_t padding, int64_t k, const std::optional<FusedHeadConfig>& config = {}) const {
    const FusedHead head = device_.Make();
    const int64_t padded = rows + padding;
    DeviceArray<float> x(PaddedX(rows, padded)), logp(static_cast<size_t>(padded * k));
    DeviceArray<int32_t> ids(static_cast<size_t>(padded * k)), count(std::vector{static_cast<int32_t>(rows)});
    DeviceArray<std::byte> workspace(head.TopKBytes(padded));
    const FusedHeadInput input{x.data(), {padded, padding > 0 ? count.data() : nullptr, 0}, case_.penalty};
    EXPECT_OK(head.TopK(input, k, logp.data(), ids.data(), config.value_or(Chosen(padded)), workspace.data(), nullptr,
                        false));
    workspace.Download();
    return {Used(logp.Download(), rows * k), Used(ids.Download(), rows * k)};
  }
  std::vector<float> Targets(int64_t rows, int64_t padding, const std::vector<int32_t>& target_rows,
                             const std::vector<int32_t>& target_ids,
                             const std::optional<FusedHeadConfig>& config = {}) const {
    const FusedHead head = device_.Make();
    const int64_t padded = rows + padding;
    const auto targets = static_cast<int64_t>(target_rows.size()), padded_targets = targets + padding;
    std::vector<int32_t> all_rows = target_rows, all_ids = target_ids;
    all_rows.resize(padded_targets, 0), all_ids.resize(padded_targets, 0);
    DeviceArray<float> x(PaddedX(rows, padded)), logp(static_cast<size_t>(padded_targets));
    DeviceArray<int32_t> device_rows(all_rows), device_ids(all_ids);
    DeviceArray<int32_t> counts(std::vector{static_cast<int32_t>(rows), static_cast<int32_t>(targets)});
    DeviceArray<std::byte> workspace(head.TargetBytes(padded));
    const FusedHeadInput input{x.data(), {padded, padding > 0 ? counts.data() : nullptr, 0}, case_.penalty};
    const FusedHeadTargets request{
        device_rows.data(), device_ids.data(), {padded_targets, padding > 0 ? counts.data() + 1 : nullptr, 0}};
    EXPECT_OK(
        head.Targets(input, request, logp.data(), config.value_or(Chosen(padded)), workspace.data(), nullptr, false));
    workspace.Download();
    return Used(logp.Download(), targets);
  }

 private:
  FusedHeadConfig Chosen(int64_t rows) const { return FusedHead::ChooseConfig(rows, case_.V, case_.K); }
  std::vector<float> PaddedX(int64_t rows, int64_t padded) const {
    std::vector<float> x(static_cast<size_t>(padded * case_.K), kNan);
    std::copy_n(values_.x.begin(), rows * case_.K, x.begin());
    return x;
  }
  template <typename Element>
  static std::vector<Element> Used(std::vector<Element> all, int64_t count) {
    for (size_t i = count; i < all.size(); ++i) {
      EXPECT_TRUE(IsPoison(all[i])) << "wrote element " << i << " past " << count;
      if (!IsPoison(all[i])) break;
    }
    all.resize(count);
    return all;
  }

  HeadCase case_;
  const HeadValues& values_;
  DeviceHead<T> device_;
};

// ---- exact logits --------------------------------------------------------------------------------------------------

// The k best of one row, ranked by the rounded log-probability.
Ranked RankRow(const std::vector<float>& logits, float log_sum, int64_t k) {
  std::vector<float> logp(logits.size());
  for (size_t v = 0; v < logits.size(); ++v) logp[v] = logits[v] - log_sum;
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const int64_t some = std::min<int64_t>(k, static_cast<int64_t>(order.size()));
  std::partial_sort(order.begin(), order.begin() + some, order.end(),
                    [&](int32_t a, int32_t b) { return logp[a] > logp[b] || (logp[a] == logp[b] && a < b); });
  Ranked ranked{std::vector<float>(k, -INFINITY), std::vector<int32_t>(k, kNobody)};
  for (int64_t i = 0; i < some; ++i) ranked.logp[i] = logp[order[i]], ranked.ids[i] = order[i];
  return ranked;
}

// The result must be that of a sum within 16 units in the last place of the true one.
void ExpectRanked(const std::vector<float>& logits, const float* logp, const int32_t* ids, int64_t k,
                  const std::string& what) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - highest);
  const auto log_sum = static_cast<float>(highest + std::log(sum));
  float below = log_sum, above = log_sum;
  for (int i = 0; i <= 16; ++i) {
    for (const float candidate : {below, above}) {
      const Ranked expected = RankRow(logits, candidate, k);
      if (std::equal(logp, logp + k, expected.logp.begin()) && std::equal(ids, ids + k, expected.ids.begin())) return;
    }
    below = std::nextafter(below, -INFINITY), above = std::nextafter(above, INFINITY);
  }
  const Ranked expected = RankRow(logits, log_sum, k);
  std::string lines;
  for (int64_t i = 0; i < k; ++i) {
    lines += "\n  " + std::to_string(ids[i]) + " " + std::to_string(logp[i]) + ", expected about " +
             std::to_string(expected.ids[i]) + " " + std::to_string(expected.logp[i]);
  }
  ADD_FAILURE() << what << lines;
}

// Multiples of 1/16 with many ties: every sum of products is exact in f32, in any order.
HeadValues IntegerHead(const HeadCase& c, uint32_t seed) {
  std::mt19937 generator(seed);
  const auto draw = [&](float unit) { return unit * static_cast<float>(static_cast<int>(generator() % 5) - 2); };
  HeadValues values = RandomHead(c, seed);
  for (float& v : values.x) v = draw(1);
  for (float& v : values.w) v = draw(0.0625F);
  for (float& v : values.bias) v = draw(0.25F);
  return values;
}
std::vector<float> ExactLogits(const HeadCase& c, const HeadValues& values, int64_t row) {
  std::vector<float> logits(c.V);
  for (int64_t v = 0; v < c.V; ++v) {
    float sum = 0;
    for (int64_t k = 0; k < c.K; ++k) sum += values.x[row * c.K + k] * values.w[v * c.K + k];
    logits[v] = sum + (v == c.blank ? values.bias[v] - c.penalty : values.bias[v]);
  }
  return logits;
}

class FusedHeadTest : public ::testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_HOPPER(); }

  template <typename T>
  void CheckExact(const HeadCase& c, const HeadValues& values, const std::vector<int64_t>& rows_to_try,
                  const std::vector<int64_t>& ks) {
    std::vector<std::vector<float>> logits;
    for (int64_t row = 0; row < c.M; ++row) logits.push_back(ExactLogits(c, values, row));
    const HeadRun<T> run(c, values);
    for (const FusedHeadConfig& config : AllConfigs(c.V, c.K)) {
      for (const int64_t rows : rows_to_try) {
        for (const int64_t k : ks) {
          if (!TakeCase()) continue;
          const Ranked ranked = run.TopK(rows, rows % 2 == 0 ? 0 : 70, k, config);
          for (int64_t row = 0; row < rows; ++row) {
            ExpectRanked(logits[row], &ranked.logp[row * k], &ranked.ids[row * k], k,
                         Name(config) + ", V " + std::to_string(c.V) + ", K " + std::to_string(c.K) + ", row " +
                             std::to_string(row) + " of " + std::to_string(rows) + ", k " + std::to_string(k));
            if (::testing::Test::HasFailure()) return;
          }
        }
      }
    }
  }
};

TEST_F(FusedHeadTest, RanksExactLogitsOfEveryVocabulary) {
  for (const int64_t V : {1, 5, 63, 64, 65, 127, 128, 129, 257, 500}) {
    const HeadCase c{129, V, 256, false, V / 2, 1.5F};
    CheckExact<__half>(c, IntegerHead(c, static_cast<uint32_t>(V)), {1, 65, 129}, {1, 10, 32});
    if (HasFailure()) return;
  }
}

TEST_F(FusedHeadTest, RanksExactLogitsOfEveryNumberOfRows) {
  const HeadCase c{129, 4233, 256, false, 0, 0.5F};
  const HeadValues values = IntegerHead(c, 17);
  CheckExact<__half>(c, values, {0, 1, 63, 64, 65, 129}, {10});
  CheckExact<__nv_bfloat16>(c, values, {65}, {1, 12, 13, 32});
}

TEST_F(FusedHeadTest, RanksExactLogitsOfWideRows) {
  const HeadCase c{129, 700, 512};
  const HeadValues values = IntegerHead(c, 18);
  CheckExact<__half>(c, values, {1, 64, 129}, {10, 32});
  CheckExact<__nv_bfloat16>(c, values, {65}, {10});
}

// More groups than the finishing kernel reads at once.
TEST_F(FusedHeadTest, RanksExactLogitsOfLargeVocabularies) {
  for (const int64_t V : {5632, 5633, 11300}) {
    const HeadCase c{3, V, 256, false, V - 1, 0.5F};
    CheckExact<__half>(c, IntegerHead(c, static_cast<uint32_t>(V)), {1, 2, 3}, {1, 10, 32});
    if (HasFailure()) return;
  }
}

// Logits that are a bias alone, the same in every row.
TEST_F(FusedHeadTest, OrdersTiesAscendingAndDescendingLogits) {
  HeadCase c{66, 4233, 256};
  HeadValues values = IntegerHead(c, 19);
  std::fill(values.w.begin(), values.w.end(), 0.0F);
  const auto check = [&](const auto& bias) {
    for (int64_t v = 0; v < c.V; ++v) values.bias[v] = bias(static_cast<float>(v));
    CheckExact<__half>(c, values, {66}, {10, 32});
  };
  check([](float) { return 0.0F; });
  check([](float v) { return v / 256; });
  check([](float v) { return -v / 256; });
  check([](float v) { return 1 + v * 0x1p-20F; });  // many that are equal as log-probabilities
  check([](float v) { return 1 - v * 0x1p-23F; });
  check([](float v) { return static_cast<int>(v) % 8 < 2 ? v / 512 : -v; });  // all with one thread of four
  check([](float v) { return v == 4232 ? 3000.0F : v * 0x1p-13F; });          // one far ahead: coarse log-probabilities
  check([](float v) { return v < 4200 ? 1.0F : 0.999F; });
  check([](float v) { return -1e5F - v; });
}

// ---- random layers -------------------------------------------------------------------------------------------------

// Log-probabilities of all rows in double, of the same rounded operands.
template <typename T>
std::vector<std::vector<double>> LogProbs(const HeadCase& c, const HeadValues& values) {
  std::vector<double> w(c.K * c.V);  // transposed
  for (int64_t v = 0; v < c.V; ++v) {
    for (int64_t k = 0; k < c.K; ++k) w[k * c.V + v] = HostDouble(Rounded<T>(values.w[v * c.K + k]));
  }
  std::vector<std::vector<double>> all;
  for (int64_t row = 0; row < c.M; ++row) {
    const float* x = &values.x[row * c.K];
    double mean = 0, variance = 0;
    for (int64_t k = 0; k < c.K; ++k) mean += x[k] / static_cast<double>(c.K);
    for (int64_t k = 0; k < c.K; ++k) variance += (x[k] - mean) * (x[k] - mean) / static_cast<double>(c.K);
    std::vector<double> logits(values.bias.begin(), values.bias.end());
    if (c.blank >= 0) logits[c.blank] -= c.penalty;
    for (int64_t k = 0; k < c.K; ++k) {
      double h = x[k];
      if (c.norm) h = (h - mean) / std::sqrt(variance + 1e-5) * values.gamma[k] + values.beta[k];
      h = HostDouble(Rounded<T>(static_cast<float>(h)));
      for (int64_t v = 0; v < c.V; ++v) logits[v] += h * w[k * c.V + v];
    }
    const double highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit - highest);
    for (double& logit : logits) logit -= highest + std::log(sum);
    all.push_back(std::move(logits));
  }
  return all;
}

// norm(x) may be rounded the other way in a few places of 256: each moves a logit by an ulp of about 2 times a weight.
template <typename T>
double Tolerance(const HeadCase& c) {
  return c.norm ? 8 * RoundingError<T>() * 0.2 + 1e-4 : 1e-4;
}

TEST_F(FusedHeadTest, TopKOfRandomLayers) {
  const auto check = [&]<typename T>(T, const HeadCase& c, int64_t k) {
    const HeadValues values = RandomHead(c, 23);
    const auto expected = LogProbs<T>(c, values);
    const Ranked ranked = HeadRun<T>(c, values).TopK(c.M, 3, k);
    for (int64_t row = 0; row < c.M; ++row) {
      std::vector<double> sorted = expected[row];
      std::partial_sort(sorted.begin(), sorted.begin() + k, sorted.end(), std::greater<>());
      for (int64_t i = 0; i < k; ++i) {
        const int32_t id = ranked.ids[row * k + i];
        ASSERT_TRUE(id >= 0 && id < c.V) << "row " << row << ": id " << id;
        ASSERT_NEAR(ranked.logp[row * k + i], expected[row][id], Tolerance<T>(c)) << "row " << row << " place " << i;
        ASSERT_NEAR(ranked.logp[row * k + i], sorted[i], Tolerance<T>(c)) << "row " << row << " place " << i;
      }
    }
  };
  check(__half{}, {1000, 4233, 256, true, 0, 1.5F}, 10);
  check(__half{}, {130, 4233, 256, false}, 32);
  check(__nv_bfloat16{}, {70, 1000, 256, true}, 10);
  check(__half{}, {70, 5000, 512, true, 7, -2.0F}, 10);
}

TEST_F(FusedHeadTest, TargetsOfRandomLayers) {
  const auto check = [&]<typename T>(T, const HeadCase& c) {
    const HeadValues values = RandomHead(c, 29);
    const auto expected = LogProbs<T>(c, values);
    std::vector<int32_t> rows, ids;
    for (int32_t row = 0; row < c.M; ++row) {
      for (int i = 0; i < row % 4; ++i) {  // none to three
        rows.push_back(row);
        ids.push_back(i == 2 ? 0 : (row * 61 + i * 1000) % static_cast<int32_t>(c.V));
      }
    }
    rows.insert(rows.end(), 3, static_cast<int32_t>(c.M - 1));
    ids.insert(ids.end(), {static_cast<int32_t>(c.V), -1, static_cast<int32_t>(c.V - 1)});
    const HeadRun<T> run(c, values);
    std::vector<float> first;
    for (const FusedHeadConfig& config : AllConfigs(c.V, c.K)) {
      if (!first.empty() && !TakeCase()) continue;
      const std::vector<float> logp = run.Targets(c.M, 5, rows, ids, config);
      if (first.empty()) first = logp;
      ASSERT_EQ(memcmp(first.data(), logp.data(), logp.size() * 4), 0) << Name(config);
    }
    for (size_t g = 0; g < rows.size(); ++g) {
      if (ids[g] < 0 || ids[g] >= c.V) {
        EXPECT_EQ(first[g], -INFINITY) << "id " << ids[g];
      } else {
        ASSERT_NEAR(first[g], expected[rows[g]][ids[g]], Tolerance<T>(c)) << "target " << g;
        ASSERT_LE(first[g], 0);
      }
    }
  };
  check(__half{}, {1000, 4233, 256, true, 0, 1.5F});
  check(__half{}, {65, 4233, 256, false});
  check(__nv_bfloat16{}, {129, 300, 256, true});
  check(__half{}, {130, 1000, 512, true, 7, 0.5F});
  for (const int64_t V : {1, 5, 127, 128, 129}) check(__half{}, {3, V, 256, true});
}

// Exponentials that overflow or vanish unless taken relative to the largest logit; in all segments, or in some.
TEST_F(FusedHeadTest, TargetsOfLogitsWhoseExponentialsDoNotFit) {
  const HeadCase c{70, 300, 256, true};
  for (const auto& [first, rest] : {std::pair(300.0F, 300.0F), {-300.0F, -300.0F}, {-300.0F, 0.0F}, {0.0F, 300.0F}}) {
    HeadValues values = RandomHead(c, 30);
    for (int64_t v = 0; v < c.V; ++v) values.bias[v] += v < 128 ? first : rest;
    const auto expected = LogProbs<__half>(c, values);
    std::vector<int32_t> rows(c.M), ids(c.M);
    std::iota(rows.begin(), rows.end(), 0);
    for (int32_t row = 0; row < c.M; ++row) ids[row] = row * 37 % static_cast<int32_t>(c.V);
    const std::vector<float> logp = HeadRun<__half>(c, values).Targets(c.M, 0, rows, ids);
    for (int32_t row = 0; row < c.M; ++row) {  // logits of 300 come in steps of 3e-5
      ASSERT_NEAR(logp[row], expected[row][ids[row]], Tolerance<__half>(c) + 2e-4) << first << ", " << rest;
    }
  }
}

TEST_F(FusedHeadTest, TargetsWithoutRowsAreSkipped) {
  const HeadCase c{10, 200, 256};
  const HeadValues values = RandomHead(c, 31);
  const HeadRun<__half> run(c, values);
  const std::vector<float> logp = run.Targets(8, 2, {-1, 3, 8, 9, 100}, {1, 2, 3, 4, 5});
  for (const size_t g : {0, 2, 3, 4}) EXPECT_TRUE(IsPoison(logp[g])) << "target " << g;
  EXPECT_LT(logp[1], 0);
  EXPECT_TRUE(run.Targets(0, 3, {}, {}).empty());
}

TEST_F(FusedHeadTest, BitsOfARowDependOnTheRowAlone) {
  const HeadCase c{1000, 4233, 256, true, 0, 1.0F};
  const HeadValues values = RandomHead(c, 37);
  const HeadRun<__half> run(c, values);
  const Ranked all = run.TopK(1000, 0, 10);
  for (const int64_t rows : {1, 64, 124, 129, 992}) {
    const Ranked some = run.TopK(rows, 5, 10);
    EXPECT_TRUE(std::equal(some.logp.begin(), some.logp.end(), all.logp.begin())) << rows << " rows";
    EXPECT_TRUE(std::equal(some.ids.begin(), some.ids.end(), all.ids.begin())) << rows << " rows";
  }
  for (const FusedHeadConfig& config : AllConfigs(c.V, c.K)) {
    if (!TakeCase()) continue;
    const Ranked same = run.TopK(1000, 0, 10, config);
    EXPECT_EQ(same.logp, all.logp) << Name(config);
    EXPECT_EQ(same.ids, all.ids) << Name(config);
  }
}

// Small enough for the sanitizers.
TEST_F(FusedHeadTest, EveryCutGivesTheSame) {
  const HeadCase c{66, 300, 256, true, 0, 1.0F};
  const HeadValues values = RandomHead(c, 38);
  const HeadRun<__half> run(c, values);
  const Ranked best = run.TopK(66, 3, 10);
  const std::vector<float> target = run.Targets(66, 3, {0, 64, 65}, {1, 2, 299});
  for (const FusedHeadConfig& config : AllConfigs(c.V, c.K)) {
    if (!TakeCase()) continue;
    EXPECT_EQ(run.TopK(66, 3, 10, config).logp, best.logp) << Name(config);
    EXPECT_EQ(run.Targets(66, 3, {0, 64, 65}, {1, 2, 299}, config), target) << Name(config);
  }
}

// Calls one after the other that share a workspace, overlapping or not.
TEST_F(FusedHeadTest, DependentLaunchesGiveTheSame) {
  const HeadCase c{300, 1000, 256, true};
  const HeadValues values = RandomHead(c, 41);
  const DeviceHead<__half> device(c, values);
  const FusedHead head = device.Make();
  DeviceArray<float> x(values.x);
  DeviceArray<std::byte> workspace(std::max(head.TopKBytes(c.M), head.TargetBytes(c.M)));
  DeviceArray<int32_t> target_rows(std::vector{0, 1, 299}), target_ids(std::vector{5, 6, 7});
  std::vector<std::vector<float>> results;
  for (const bool dependent : {false, true}) {
    DeviceArray<float> logp(c.M * 10), last(c.M * 10), targets(3);
    DeviceArray<int32_t> ids(c.M * 10);
    for (int i = 0; i < 20; ++i) {
      const int64_t rows = i % 2 == 0 ? 300 : 100;
      const FusedHeadConfig config = FusedHead::ChooseConfig(rows, c.V, c.K);
      EXPECT_OK(head.TopK({x.data(), {rows, nullptr, 0}, 0}, 10, i == 18 ? last.data() : logp.data(), ids.data(),
                          config, workspace.data(), nullptr, dependent && i > 0));
      EXPECT_OK(head.Targets({x.data(), {c.M, nullptr, 0}, 0}, {target_rows.data(), target_ids.data(), {3, nullptr, 0}},
                             targets.data(), config, workspace.data(), nullptr, dependent));
    }
    std::vector<float> all = last.Download();
    for (const float v : targets.Download()) all.push_back(v);
    results.push_back(all);
  }
  EXPECT_EQ(memcmp(results[0].data(), results[1].data(), results[0].size() * 4), 0);
  EXPECT_LT(results[0].back(), 0);
}

TEST_F(FusedHeadTest, RefusesWithAReason) {
  const HeadCase c{4, 300, 256};
  const HeadValues values = RandomHead(c, 43);
  const DeviceHead<__half> device(c, values);
  FusedHeadWeights weights = device.Weights();
  EXPECT_OK(FusedHead::Supports(weights));
  weights.K = 144;
  EXPECT_NE(FusedHead::Supports(weights).message().find("144"), std::string::npos);
  weights.K = 256, weights.type = DType::kF32;
  EXPECT_NE(FusedHead::Supports(weights).message().find("f32"), std::string::npos);
  const FusedHead head = device.Make();
  DeviceArray<float> x(values.x), logp(4 * 40);
  DeviceArray<int32_t> ids(4 * 40);
  DeviceArray<std::byte> workspace(head.TopKBytes(4));
  const auto run = [&](int64_t k, const FusedHeadConfig& config) {
    return head.TopK({x.data(), {4, nullptr, 0}, 0}, k, logp.data(), ids.data(), config, workspace.data(), nullptr,
                     false);
  };
  EXPECT_OK(run(10, {1, 1, 1}));
  EXPECT_FALSE(run(33, {1, 1, 1}).ok());
  EXPECT_FALSE(run(10, {4, 1, 1}).ok());
  EXPECT_FALSE(run(10, {1, 4, 1}).ok());
  EXPECT_FALSE(run(10, {1, 1, 3}).ok());
}

TEST(FusedHeadChoice, IsAlwaysPossible) {
  for (const int64_t M : {1, 124, 170, 992, 7936, 31744}) {
    for (const int64_t V : {1, 128, 129, 4233, 11008, 100000}) {
      for (const int64_t K : {256, 512}) {
        const FusedHeadConfig config = FusedHead::ChooseConfig(M, V, K);
        EXPECT_GE(config.splits, FusedHead::LeastSplits(V)) << M << " x " << V;
        EXPECT_LE(config.splits, (V + 127) / 128) << M << " x " << V;
        EXPECT_TRUE(config.row_groups == 1 || (config.row_groups <= 3 && K == 256));
      }
    }
  }
}

}  // namespace
}  // namespace ting::cuda
