// tests/kernels/cuda/tuning_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Tuning records in the CUDA backend: which of record and own choice runs, that neither changes what is computed beyond
// what the kernels' contracts allow, and that the tuner finds records which run. `TuningChoice.*` needs no GPU.
#include "kernels/tuning.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/fused_ffn_tuning.h"
#include "kernels/cuda/row_gemm_tuning.h"
#include "kernels/cuda/tuner.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/support/gpu_test.h"
#include "tests/support/take_case.h"

namespace ting::cuda {
namespace {

using testing::PackedOp;
using testing::TestOp;

// ---- Without a GPU.

TEST(TuningChoice, RowsArePaddedToSizesBetweenPowersOfTwo) {
  EXPECT_EQ(PadRows(0), 32);
  EXPECT_EQ(PadRows(1), 32);
  EXPECT_EQ(PadRows(33), 64);
  EXPECT_EQ(PadRows(124), 128);
  EXPECT_EQ(PadRows(161), 192);
  EXPECT_EQ(PadRows(513), 576);
  EXPECT_EQ(PadRows(992), 1024);
  EXPECT_EQ(PadRows(10561), 11264);
  EXPECT_EQ(PadRows(10304), 10560);  // what tiles of 80 rows hold
  for (int64_t rows = 1; rows < 12000; ++rows) {
    const int64_t padded = PadRows(rows);
    ASSERT_GE(padded, rows);
    ASSERT_LE(padded - rows, std::max<int64_t>(rows / 8, 31));
    ASSERT_EQ(PadRows(padded), padded);
  }
}

TEST(TuningChoice, RowGemmConfigsSurviveARecord) {
  const RowGemmConfig config{2, 128, 5, 1, 2, 16};
  const auto back = RowGemmConfigOf(ToTuningConfig(config));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->groups, 2);
  EXPECT_EQ(back->tile_n, 128);
  EXPECT_EQ(back->tiles_per_block, 5);
  EXPECT_EQ(back->split, 1);
  EXPECT_EQ(back->share, 2);
  EXPECT_EQ(back->rows, 16);
  const auto stationary = RowGemmConfigOf(ToTuningConfig(RowGemmConfig{4, 64, 4, 1, 1, 256}));
  ASSERT_TRUE(stationary);
  EXPECT_EQ(stationary->groups, 4);
  EXPECT_EQ(stationary->rows, 256);
}

TEST(TuningChoice, WhatIsNoRowGemmConfigIsRefused) {
  const TuningConfig good = ToTuningConfig(RowGemmConfig{1, 64, 1, 1, 1});
  EXPECT_TRUE(RowGemmConfigOf(good));
  EXPECT_FALSE(RowGemmConfigOf({}));
  for (const auto& [name, value] : good) {
    for (const int64_t wrong : {int64_t{-1}, int64_t{0}, int64_t{1} << 31, int64_t{1} << 40}) {
      TuningConfig bad = good;
      bad[name] = wrong;
      EXPECT_FALSE(RowGemmConfigOf(bad)) << name << " " << wrong;
    }
    TuningConfig less = good;
    less.erase(name);
    EXPECT_FALSE(RowGemmConfigOf(less)) << name;
  }
  TuningConfig more = good;
  more["unknown"] = 1;
  EXPECT_FALSE(RowGemmConfigOf(more));
}

FusedFfnWeights Layer() {
  FusedFfnWeights weights;
  weights.D = 256, weights.F = 2048;
  return weights;
}

TEST(TuningChoice, TheFeedForwardTakesARecordBeforeItsOwnChoice) {
  TuningTable table;
  const TuningProduct product = TuningProductOf(Layer(), std::nullopt);
  const FfnConfig chosen{128, 1, 1}, measured{128, 4, 2};
  EXPECT_EQ(TunedFfnConfig(product, 992, chosen, std::nullopt, table).split, chosen.split);
  table.Put({product, 1024, ToTuningConfig(measured), 1, 2});
  const FfnConfig tuned = TunedFfnConfig(product, 992, chosen, std::nullopt, table);
  EXPECT_EQ(ToTuningConfig(tuned), ToTuningConfig(measured));
  EXPECT_EQ(TunedFfnConfig(product, 1025, chosen, std::nullopt, table).split, chosen.split) << "the next size";
}

TEST(TuningChoice, TheFeedForwardIgnoresRecordsThatItCannotRun) {
  const TuningProduct product = TuningProductOf(Layer(), std::nullopt);
  for (const TuningConfig& bad : {TuningConfig{},
                                  {{"tile_rows", 64}},
                                  {{"tile_rows", 65}, {"split", 4}, {"sharing", 1}},
                                  {{"tile_rows", 64}, {"split", 16}, {"sharing", 4}},
                                  {{"tile_rows", 64}, {"split", 0}, {"sharing", 1}},
                                  {{"tile_rows", 64}, {"split", 4}, {"sharing", 3}},
                                  {{"tile_rows", 64}, {"split", 4}, {"sharing", 1}, {"more", 1}},
                                  {{"groups", 1}, {"split", 4}, {"sharing", 1}}}) {
    TuningTable table;
    int notes = 0;
    table.SetNote([&](const std::string&) { ++notes; });
    table.Put({product, 128, bad, 1, 2});
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(TunedFfnConfig(product, 124, {128, 3, 1}, std::nullopt, table).split, 3);
    }
    EXPECT_EQ(notes, 1);
    EXPECT_TRUE(table.Records().empty());
  }
}

TEST(TuningChoice, AFixedOrderOfSumsIsKept) {
  const TuningProduct product = TuningProductOf(Layer(), 8);
  EXPECT_NE(product, TuningProductOf(Layer(), std::nullopt)) << "records of one mode would serve the other";
  TuningTable table;
  table.Put({product, 128, ToTuningConfig(FfnConfig{64, 4, 1}), 1, 2});
  EXPECT_EQ(TunedFfnConfig(product, 124, {128, 8, 1}, 8, table).tile_rows, 128) << "split 4 is not split 8";
  table.Put({product, 128, ToTuningConfig(FfnConfig{64, 8, 1}), 1, 2});
  EXPECT_EQ(TunedFfnConfig(product, 124, {128, 8, 1}, 8, table).tile_rows, 64);
  const auto tunable = MakeFusedFfnTunable(Layer(), 8, FusedFfn::ChooseConfig);
  const std::vector<TuningConfig> candidates = tunable->Candidates(128);
  EXPECT_GE(candidates.size(), 2U);
  for (const TuningConfig& config : candidates) EXPECT_EQ(config.at("split"), 8);
  EXPECT_GT(MakeFusedFfnTunable(Layer(), std::nullopt, FusedFfn::ChooseConfig)->Candidates(128).size(),
            candidates.size());
}

// ---- With one.

struct Node {
  PackedOp packed;
  int64_t K = 0, N = 0;
};
Node LinearNode(int64_t N, int64_t K) {
  testing::Rng rng(7);
  TestOp op("linear");
  op.RandomLinear(rng, "linear", N, K);
  return {op.Pack(), K, N};
}
Node FeedForwardNode() {
  testing::Rng rng(8);
  TestOp op("feed_forward");
  op.RandomLinear(rng, "w1", 2048, 256).RandomLinear(rng, "w2", 256, 2048).RandomNorm(rng, "norm", 256);
  op.Set("residual", Attribute(0.5));
  return {op.Pack(), 256, 256};
}

class TuningGpuTest : public ::testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_GPU(); }

  void MakeBackend(Compute compute, bool batch_invariant = false) {
    backend_ = std::move(CudaBackend::Create({0, compute, batch_invariant})).value();
    stream_ = std::move(CudaStream::Create()).value();
    notes_.clear();
    backend_->tuning().SetNote([this](const std::string& note) { notes_.push_back(note); });
  }

  // A kernel of the node, the first that takes it or the one of that name.
  std::unique_ptr<Kernel> MakeKernel(Node& node, const std::string& name = "") {
    node.packed.desc.backend = backend_.get();
    for (const KernelEntry* entry : testing::EntriesFor(CudaKernels(), node.packed.desc)) {
      if (name.empty() || name == entry->name) return std::move(entry->create(node.packed.desc)).value();
    }
    ADD_FAILURE() << "no kernel " << name;
    return nullptr;
  }
  std::vector<float> Run(Kernel& kernel, const Node& node, int64_t rows) {
    DeviceArray<float> x(testing::Rng(9).Floats(rows * node.K)), y(static_cast<size_t>(rows * node.N));
    const TensorView input{x.data(), DType::kF32, {rows, node.K}}, output{y.data(), DType::kF32, {rows, node.N}};
    const RowSet* const no_rows = nullptr;
    const StepOptions options;
    KernelContext context{{&input, 1}, {&output, 1}, {&no_rows, 1}, &options, nullptr, stream_.get(), {}};
    DeviceArray<unsigned char> workspace(kernel.WorkspaceBytes(context) + 64);
    context.workspace = reinterpret_cast<std::byte*>(workspace.data());
    EXPECT_OK(kernel.Run(context));
    EXPECT_OK(stream_->Synchronize());
    return y.Download();
  }
  static double Distance(const std::vector<float>& a, const std::vector<float>& b) {
    std::vector<double> expected(b.begin(), b.end());
    return RelativeError(a.data(), expected.data(), static_cast<int>(a.size()));
  }
  const TuningProduct& OnlyProduct() const {
    EXPECT_EQ(backend_->tunables().size(), 1U);
    return backend_->tunables().begin()->first;
  }

  std::unique_ptr<CudaBackend> backend_;
  std::unique_ptr<CudaStream> stream_;
  std::vector<std::string> notes_;
};

TEST_F(TuningGpuTest, EveryRecordOfRowGemmGivesTheSameBits) {
  for (const auto& [N, K] : {std::pair<int64_t, int64_t>{768, 256}, {256, 2048}}) {
    MakeBackend(Compute::kF16);
    TING_SKIP_WITHOUT_HOPPER();
    Node node = LinearNode(N, K);
    const auto kernel = MakeKernel(node, "cuda.hopper");
    const TuningProduct product = OnlyProduct();
    EXPECT_EQ(product.op, "row_gemm");
    for (const int64_t rows : {1, 124, 1000}) {
      const std::vector<float> own = Run(*kernel, node, rows);
      const auto candidates = backend_->tunables().at(product)->Candidates(PadRows(rows));
      EXPECT_GT(candidates.size(), 5U);
      for (const TuningConfig& config : candidates) {
        if (!TakeCase()) continue;
        backend_->tuning().Put({product, PadRows(rows), config, 1, 2});
        const std::vector<float> tuned = Run(*kernel, node, rows);
        ASSERT_EQ(std::memcmp(tuned.data(), own.data(), own.size() * sizeof(float)), 0) << rows << " rows";
        ASSERT_TRUE(backend_->tuning().Find(product, PadRows(rows))) << "ignored: " << notes_.back();
      }
    }
    EXPECT_TRUE(notes_.empty());
  }
}

TEST_F(TuningGpuTest, RecordsThatCannotRunAreIgnored) {
  MakeBackend(Compute::kF16);
  TING_SKIP_WITHOUT_HOPPER();
  Node node = LinearNode(768, 256);
  const auto kernel = MakeKernel(node, "cuda.hopper");
  const std::vector<float> own = Run(*kernel, node, 124);
  for (const RowGemmConfig& bad : {RowGemmConfig{1, 48, 1, 1, 1},
                                   {1, 128, 64, 1, 1},  // more columns than there are
                                   {1, 128, 1024, 1, 1},
                                   {1, 64, 1, 4, 1},  // K has one segment
                                   {1, 64, 1, 16, 2},
                                   {1, 64, 1, 1, 1, 48}}) {
    notes_.clear();
    backend_->tuning().Put({OnlyProduct(), 128, ToTuningConfig(bad), 1, 2});
    EXPECT_EQ(Run(*kernel, node, 124), own);
    EXPECT_EQ(notes_.size(), 1U);
  }
}

TEST_F(TuningGpuTest, TheFeedForwardRunsTheRecordsCut) {
  for (const bool batch_invariant : {false, true}) {
    MakeBackend(Compute::kF16, batch_invariant);
    TING_SKIP_WITHOUT_HOPPER();
    Node node = FeedForwardNode();
    const auto kernel = MakeKernel(node, "cuda.fused");
    const std::vector<float> own = Run(*kernel, node, 124);
    int others = 0;
    for (const int split : {1, 2, 8, 16}) {
      const TuningConfig config = ToTuningConfig(FfnConfig{128, split, 1});
      backend_->tuning().Put({OnlyProduct(), 128, config, 1, 2});
      const std::vector<float> tuned = Run(*kernel, node, 124);
      EXPECT_LT(Distance(tuned, own), 1e-4) << "split " << split;
      others += tuned != own ? 1 : 0;
    }
    // Splits differ in their last bits, which shows that they ran; in batch-invariant mode none may.
    if (batch_invariant) EXPECT_EQ(others, 0);
    if (!batch_invariant) EXPECT_GE(others, 1);
    EXPECT_EQ(notes_.empty(), !batch_invariant);
  }
}

TEST_F(TuningGpuTest, CublasLtRunsTheRecordsAlgorithm) {
  for (const Compute compute : {Compute::kF32, Compute::kTF32, Compute::kF16}) {
    MakeBackend(compute);
    Node node = LinearNode(256, 256);
    const auto kernel = MakeKernel(node, "cuda.cublaslt");
    const TuningProduct product = OnlyProduct();
    const auto candidates = backend_->tunables().at(product)->Candidates(192);
    ASSERT_GE(candidates.size(), 1U) << product.ToString();
    const std::vector<float> own = Run(*kernel, node, 124);
    // Choices are kept by their rows: each record gets rows of its own.
    for (size_t i = 0; i < candidates.size(); ++i) {
      const auto rows = static_cast<int64_t>(161 + i);
      backend_->tuning().Put({product, 192, candidates[i], 1, 2});
      std::vector<float> tuned = Run(*kernel, node, rows);
      tuned.resize(own.size());
      // Algorithms round operands to tf32 in two ways: to the nearest or towards zero.
      const double bound = compute == Compute::kF32 ? 1e-6 : compute == Compute::kTF32 ? 1e-3 : 1e-5;
      EXPECT_LT(Distance(tuned, own), bound) << product.ToString() << " " << i;
    }
    EXPECT_TRUE(notes_.empty()) << notes_.back();
    TuningConfig bad = candidates[0];
    bad["tile"] = 65535;
    backend_->tuning().Put({product, 64, bad, 1, 2});
    Run(*kernel, node, 50);
    EXPECT_EQ(notes_.size(), 1U);
  }
}

TEST_F(TuningGpuTest, BatchInvariantCublasLtHasNothingToTune) {
  MakeBackend(Compute::kF32, /*batch_invariant=*/true);
  Node node = LinearNode(256, 256);
  const auto kernel = MakeKernel(node, "cuda.cublaslt");
  EXPECT_TRUE(backend_->tunables().empty());
}

TEST_F(TuningGpuTest, TheTunerFindsRecordsThatRun) {
  MakeBackend(Compute::kF16);
  // Thousands of launches a product: under a sanitizer some, of one product, on few rows.
  const TuningEffort effort = TakeFew() ? TuningEffort{{1, 1}, {2, 2}, 2} : TuningEffort();
  std::vector<Node> nodes;
  if (!TakeFew()) nodes.push_back(FeedForwardNode());
  nodes.push_back(LinearNode(768, 256));
  const int64_t rows = TakeFew() ? 32 : 992;
  const std::vector<int64_t> sizes{28, 32, rows};
  std::vector<std::unique_ptr<Kernel>> kernels;
  for (Node& node : nodes) kernels.push_back(MakeKernel(node));
  const std::vector<float> own = Run(*kernels[0], nodes[0], rows);
  std::vector<TuningRecord> told;
  const auto records =
      TuneProducts(*backend_, {sizes, [&](const TuningRecord& record) { told.push_back(record); }}, effort);
  ASSERT_TRUE(records.ok()) << records.status().ToString();
  const size_t different = rows == 32 ? 1 : 2;  // 28 and 32 rows are one size
  EXPECT_EQ(records->size(), different * backend_->tunables().size());
  EXPECT_EQ(told.size(), records->size());
  for (const TuningRecord& record : *records) {
    EXPECT_GT(record.us, 0.3) << record.product.ToString();
    EXPECT_LE(record.us, record.unrecorded_us) << record.product.ToString();
    const auto found = backend_->tuning().Find(record.product, record.rows);
    EXPECT_EQ(found.value_or(TuningConfig()), record.config);
  }
  for (size_t i = 0; i < nodes.size(); ++i) Run(*kernels[i], nodes[i], rows);
  EXPECT_LT(Distance(Run(*kernels[0], nodes[0], rows), own), 1e-4);
  EXPECT_TRUE(notes_.empty()) << notes_.back();
}

}  // namespace
}  // namespace ting::cuda
