// tests/kernels/cuda/fused_head_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// Times of the CTC head (the ten best of 4,233 symbols) and of the decoder's score head (LayerNorm, a target a row),
// against row_gemm's logits in blocks of 2,048 rows and the kernels that read them. `FusedHeadBench.*` of
// fused_head_test; dependent launches in a graph.
#include <cstdio>
#include <map>
#include <memory>
#include <numeric>

#include "kernels/cuda/row_gemm.h"
#include "tests/kernels/cuda/head_testing.h"

namespace ting::cuda {
namespace {

constexpr int64_t kV = 4233, kK = 256, kBest = 10;
constexpr int kLaunches = 20;

class HeadWorkload {
 public:
  HeadWorkload(int64_t M, bool norm)
      : case_{M, kV, kK, norm},
        values_(RandomHead(case_, 1)),
        device_(case_, values_),
        head_(device_.Make()),
        x_(values_.x),
        logp_(static_cast<size_t>(M * kBest)),
        ids_(static_cast<size_t>(M * kBest)),
        rows_(Targets(M)),
        targets_(std::vector<int32_t>(static_cast<size_t>(M), 17)),
        logits_(static_cast<size_t>(std::min<int64_t>(M, 2048) * kV)),
        workspace_(std::max(head_.TopKBytes(M), head_.TargetBytes(M))) {}

  bool TopKFits() const { return case_.M <= head_.MaxTopKRows(); }
  Status Launch(bool top_k, const FusedHeadConfig& config, cudaStream_t stream = nullptr,
                bool dependent = false) const {
    const FusedHeadInput input{x_.data(), {case_.M, nullptr, 0}, 0};
    if (top_k) {
      return head_.TopK(input, kBest, logp_.data(), ids_.data(), config, workspace_.data(), stream, dependent);
    }
    return head_.Targets(input, {rows_.data(), targets_.data(), {case_.M, nullptr, 0}}, logp_.data(), config,
                         workspace_.data(), stream, dependent);
  }
  double Fused(bool top_k, const FusedHeadConfig& config) const {
    return GraphMicroseconds(kLaunches,
                             [&](int i, cudaStream_t stream) { return Launch(top_k, config, stream, i > 0); });
  }
  double Fused(bool top_k) const { return Fused(top_k, FusedHead::ChooseConfig(case_.M, kV, kK)); }
  double ByLogits(bool top_k) const {
    return GraphMicroseconds(kLaunches, [&](int i, cudaStream_t stream) {
      for (int64_t first = 0; first < case_.M; first += 2048) {
        const RowRange range{std::min<int64_t>(2048, case_.M - first), nullptr, first};
        RowGemmArguments a = Product(range);
        a.dependent = i > 0;
        if (const Status status = RowGemm(a, stream); !status.ok()) return status;
        const Status status = top_k ? TopKRows(logits_.data(), kV, nullptr, kV, -1, 0, range, kBest,
                                               logp_.data() + first * kBest, ids_.data() + first * kBest, stream)
                                    : TargetRows(logits_.data(), kV, nullptr, kV, -1, 0, range, rows_.data(),
                                                 targets_.data(), {case_.M, nullptr, 0}, logp_.data(), stream);
        if (!status.ok()) return status;
      }
      return Status();
    });
  }

 private:
  static std::vector<int32_t> Targets(int64_t M) {
    std::vector<int32_t> rows(static_cast<size_t>(M));
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  }
  RowGemmArguments Product(const RowRange& range) const {
    const FusedHeadWeights weights = device_.Weights();
    RowGemmArguments a;
    a.M = range.rows, a.N = kV, a.K = kK;
    a.x_f32 = x_.data() + range.first * kK, a.x_stride = kK;
    a.gamma = weights.gamma, a.beta = weights.beta, a.weight = weights.w, a.bias = weights.bias;
    a.output = RowGemmOutput::kFloat, a.y = logits_.data(), a.y_stride = kV;
    return a;
  }

  HeadCase case_;
  HeadValues values_;
  DeviceHead<__half> device_;
  FusedHead head_;
  DeviceArray<float> x_, logp_;
  DeviceArray<int32_t> ids_, rows_, targets_;
  DeviceArray<float> logits_;
  DeviceArray<std::byte> workspace_;
};

// As the model has them: no norm before the CTC head, one before the score head.
TEST(FusedHeadBench, AgainstLogitsInMemory) {
  TING_SKIP_WITHOUT_HOPPER();
  for (const int64_t M : {124, 170, 992, 1360, 1984, 2720, 7936, 10880}) {
    const HeadWorkload best(M, false), targets(M, true);
    const double best_us = best.TopKFits() ? best.Fused(true) : 0;
    std::printf("%5ld rows: ten best %6.2f us (by logits %6.2f), targets %6.2f us (by logits %6.2f)  %s\n",
                static_cast<long>(M), best_us, best.ByLogits(true), targets.Fused(false), targets.ByLogits(false),
                Name(FusedHead::ChooseConfig(M, kV, kK)).c_str());
  }
}

// A call of each, for a profiler.
TEST(FusedHeadBench, Once) {
  TING_SKIP_WITHOUT_HOPPER();
  const HeadWorkload workload(7936, true);
  for (const bool top_k : {true, false}) EXPECT_OK(workload.Launch(top_k, FusedHead::ChooseConfig(7936, kV, kK)));
  EXPECT_CUDA(cudaDeviceSynchronize());
}

// Every way of cutting, to judge the choice by: the fastest first.
TEST(FusedHeadBench, Choices) {
  TING_SKIP_WITHOUT_HOPPER();
  for (const int64_t M : {124, 992, 1984, 2720, 7936, 10880}) {
    for (const bool top_k : {true, false}) {
      const HeadWorkload workload(M, !top_k);
      if (top_k && !workload.TopKFits()) continue;
      std::multimap<double, FusedHeadConfig> times;
      for (const int groups : {1, 2, 3}) {
        for (const int splits : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 34}) {
          if (M * splits > 70000 || M * splits < 2000) continue;
          for (const int sharing : {1, 2}) {
            const FusedHeadConfig config{groups, splits, sharing};
            times.emplace(workload.Fused(top_k, config), config);
          }
        }
      }
      std::printf("%5ld rows %s:", static_cast<long>(M), top_k ? "ten best" : "targets ");
      int printed = 0;
      for (const auto& [us, c] : times) {
        if (++printed > 7) break;
        std::printf(" %dx%d%s %.1f", c.row_groups, c.splits, c.sharing > 1 ? "s" : "", us);
      }
      std::printf("\n");
    }
  }
}

}  // namespace
}  // namespace ting::cuda
