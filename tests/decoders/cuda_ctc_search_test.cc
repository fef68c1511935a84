// tests/decoders/cuda_ctc_search_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The kernels against their emulation, bit for bit on any lattice, and against the CPU search on lattices where scores
// are not almost equal: prefix_beam_core_test.cc carries the proof from the one to the other.
#include <gtest/gtest.h>

#include <chrono>
#include <optional>

#include "decoders/cuda/ctc_search.h"
#include "decoders/cuda/ctc_search_kernels.h"
#include "tests/decoders/search_emulation.h"
#include "tests/support/gpu_test.h"
#include "tests/support/take_case.h"

namespace ting {
namespace {

using cuda::DeviceArray;
using testing::CpuPrefixBeam;
using testing::ExpectSameNBest;
using testing::HostTableLogAdd;
using testing::PackedBatch;
using testing::RandomFrames;
using testing::SearchEmulation;

using NBestLists = std::vector<std::vector<PrefixHypothesis>>;

struct DeviceBatch {
  DeviceArray<float> logp;
  DeviceArray<int32_t> ids, row_offsets;
  CudaCtcRows rows;

  // `extra` sequences of no rows behind the real ones, as in a bucket that is not full.
  explicit DeviceBatch(const PackedBatch& batch, int extra = 0)
      : logp(batch.logp), ids(batch.ids), row_offsets(Padded(batch, extra)) {
    rows = {logp.data(),
            ids.data(),
            row_offsets.data(),
            batch.k,
            batch.num_sequences() + extra,
            batch.row_offsets.back() + extra};
  }
  static std::vector<int32_t> Padded(const PackedBatch& batch, int extra) {
    std::vector<int32_t> offsets = batch.row_offsets;
    offsets.insert(offsets.end(), extra, offsets.back());
    return offsets;
  }
};

NBestLists Decode(CudaCtcSearch* search, const PackedBatch& batch, const PrefixBeamOptions& options, int extra = 0) {
  DeviceBatch device(batch, extra);
  const Status status = search->PrefixBeam(device.rows, options, nullptr);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  auto results = search->PrefixResults(batch.num_sequences() + extra);
  EXPECT_TRUE(results.ok()) << results.status().message();
  return results.ok() ? *results : NBestLists(batch.num_sequences() + extra);
}

NBestLists Emulate(const PackedBatch& batch, const PrefixBeamOptions& o) {
  SearchEmulation emulation(batch, o.beam);
  return emulation.PrefixBeam({o.beam, o.token_beam, o.blank_id, o.blank_skip_logp}, HostTableLogAdd()).value();
}

void ExpectSameLists(const NBestLists& actual, const NBestLists& expected, double tolerance) {
  for (size_t b = 0; b < expected.size(); ++b) {
    SCOPED_TRACE(::testing::Message() << "sequence " << b);
    ExpectSameNBest(actual[b], expected[b], tolerance);
  }
}

class CudaCtcSearchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TING_SKIP_WITHOUT_GPU();
    auto search = CudaCtcSearch::Create();
    ASSERT_TRUE(search.ok()) << search.status().message();
    search_ = std::move(search).value();
  }
  std::optional<CudaCtcSearch> search_;
};

TEST_F(CudaCtcSearchTest, EqualsItsEmulationBitForBit) {
  std::mt19937 random(31);
  for (int trial = 0; trial < 60 && !HasFailure(); ++trial) {
    if (!cuda::TakeCase()) continue;
    const int V = 2 + static_cast<int>(random() % 9), levels = static_cast<int>(random() % 4);
    PrefixBeamOptions options;
    options.beam = 1 + static_cast<int>(random() % 32);
    options.token_beam = 1 + static_cast<int>(random() % V);
    options.blank_id = static_cast<int>(random() % V);
    if (trial % 7 == 0) options.blank_skip_logp = std::log(0.3F);
    PackedBatch batch;
    for (int b = 0; b < 6; ++b) {
      batch.Append(RandomFrames(random, static_cast<int>(random() % 70), V, V, levels, trial % 3 == 0));
    }
    SCOPED_TRACE(::testing::Message() << "trial " << trial << " V " << V << " beam " << options.beam << " tokens "
                                      << options.token_beam << " levels " << levels);
    ExpectSameLists(Decode(&*search_, batch, options, trial % 4), Emulate(batch, options), 0);
  }
}

TEST_F(CudaCtcSearchTest, EqualsTheCpuSearch) {
  std::mt19937 random(32);
  for (int trial = 0; trial < 60 && !HasFailure(); ++trial) {
    if (!cuda::TakeCase()) continue;
    const int V = trial % 5 == 0 ? 3 : 40, width = 1 + static_cast<int>(random() % std::min(V, 32));
    PrefixBeamOptions options;
    options.beam = trial % 2 == 0 ? width : 1 + static_cast<int>(random() % 32);
    options.token_beam = width;
    PackedBatch batch;
    for (int b = 0; b < 20; ++b) {
      batch.Append(RandomFrames(random, static_cast<int>(random() % 150), V, std::min(V, 32), 0, trial % 3 == 0));
    }
    SCOPED_TRACE(::testing::Message() << "trial " << trial << " beam " << options.beam << " tokens " << width);
    ExpectSameLists(Decode(&*search_, batch, options), CpuPrefixBeam(batch, options), 1e-9);
  }
}

TEST_F(CudaCtcSearchTest, LongAndEmptyUtterances) {
  std::mt19937 random(33);
  PackedBatch batch;
  for (const int T : {0, 3000, 1, 0, 0, 700, 2}) batch.Append(RandomFrames(random, T, 12, 12, 0, false));
  PrefixBeamOptions options;
  ExpectSameLists(Decode(&*search_, batch, options, 3), CpuPrefixBeam(batch, options), 1e-9);
  PackedBatch nothing;
  nothing.k = 10;
  EXPECT_TRUE(Decode(&*search_, nothing, options).empty());
  const NBestLists padding = Decode(&*search_, nothing, options, 2);
  ASSERT_EQ(padding.size(), 2U);
  ASSERT_EQ(padding[1].size(), 1U);
  EXPECT_TRUE(padding[1][0].tokens.empty());
  EXPECT_EQ(padding[1][0].score, 0);
}

TEST_F(CudaCtcSearchTest, NeighboursDoNotMatter) {
  std::mt19937 random(34);
  std::vector<testing::OwnedFrames> utterances;
  PackedBatch together;
  for (int b = 0; b < 9; ++b) {
    utterances.push_back(testing::PeakedFrames(random, 20 * b, 20));
    together.Append(utterances.back());
  }
  PrefixBeamOptions options;
  const NBestLists expected = Decode(&*search_, together, options);
  for (int b = 0; b < 9; ++b) {
    PackedBatch alone;
    alone.Append(utterances[b]);
    ExpectSameNBest(Decode(&*search_, alone, options)[0], expected[b], 0);
  }
}

TEST_F(CudaCtcSearchTest, GreedyEqualsTheCpuSearchBitForBit) {
  std::mt19937 random(35);
  for (int trial = 0; trial < 20; ++trial) {
    const int V = 2 + trial % 5;
    PackedBatch batch;
    for (const int T : {trial * 7, 0, 1, 32, 33, 1000}) batch.Append(RandomFrames(random, T, V, 2, trial % 3, false));
    DeviceBatch device(batch, 2);
    ASSERT_TRUE(search_->Greedy(device.rows, 0, nullptr).ok());
    ASSERT_CUDA(cudaDeviceSynchronize());
    const auto results = search_->GreedyResults(batch.num_sequences());
    ASSERT_TRUE(results.ok()) << results.status().message();
    for (int b = 0; b < batch.num_sequences(); ++b) {
      const GreedyResult expected = CtcGreedySearch(batch.frames(b), 0);
      EXPECT_EQ((*results)[b].tokens, expected.tokens);
      EXPECT_EQ((*results)[b].times, expected.times);
      EXPECT_EQ((*results)[b].confidences, expected.confidences);
      EXPECT_EQ((*results)[b].score, expected.score);
    }
  }
}

// The kernel on buffers of exactly the size that it may use.
TEST_F(CudaCtcSearchTest, WritesNothingAroundItsBuffers) {
  std::mt19937 random(36);
  PackedBatch batch;
  for (const int T : {40, 0, 77, 1}) batch.Append(RandomFrames(random, T, 20, 20, 0, false));
  DeviceBatch device(batch);
  const int beam = 13, rows = batch.row_offsets.back(), B = batch.num_sequences();
  DeviceArray<cuda_ctc::SoftplusCell> softplus(
      {HostTableLogAdd().table, HostTableLogAdd().table + cuda_ctc::kSoftplusCells});
  DeviceArray<cuda_ctc::TrieNode> nodes(rows * beam);
  DeviceArray<int32_t> times(rows * beam), staged_tokens(rows * beam), staged_times(rows * beam);
  DeviceArray<int32_t> tokens(rows * beam), out_times(rows * beam);
  DeviceArray<cuda_ctc::SequenceHeader> sequences(B);
  DeviceArray<cuda_ctc::HypothesisHeader> hypotheses(B * beam);
  ASSERT_CUDA(cuda_ctc::LaunchPrefixBeam(
      {device.logp.data(), device.ids.data(), device.row_offsets.data(), 20, rows}, B, {beam, 20, 0, INFINITY},
      softplus.data(), {nodes.data(), times.data(), staged_tokens.data(), staged_times.data()},
      {sequences.data(), hypotheses.data(), tokens.data(), out_times.data(), nullptr}, nullptr));
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(sequences.Download()[2].num_hypotheses, beam);
}

TEST_F(CudaCtcSearchTest, RunsUnderCapture) {
  std::mt19937 random(37);
  PackedBatch batch;
  for (const int T : {40, 90}) batch.Append(RandomFrames(random, T, 20, 20, 0, false));
  DeviceBatch device(batch);
  const PrefixBeamOptions options;
  ASSERT_TRUE(search_->Reserve(2, batch.row_offsets.back(), options.beam).ok());
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t instance;
  ASSERT_CUDA(cudaStreamCreate(&stream));
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  ASSERT_TRUE(search_->PrefixBeam(device.rows, options, stream).ok());
  ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
  ASSERT_CUDA(cudaGraphInstantiate(&instance, graph, 0));
  for (int replay = 0; replay < 3; ++replay) {
    ASSERT_CUDA(cudaGraphLaunch(instance, stream));
    ASSERT_CUDA(cudaStreamSynchronize(stream));
    ExpectSameLists(search_->PrefixResults(2).value(), CpuPrefixBeam(batch, options), 1e-9);
  }
  ASSERT_CUDA(cudaGraphExecDestroy(instance));
  ASSERT_CUDA(cudaGraphDestroy(graph));
  ASSERT_CUDA(cudaStreamDestroy(stream));
}

TEST_F(CudaCtcSearchTest, RefusesWhatItCannotSearch) {
  std::mt19937 random(38);
  PackedBatch batch;
  for (const int T : {8, 9}) batch.Append(RandomFrames(random, T, 40, 33, 0, false));
  batch.logp[10 * 33 + 2] = NAN;
  DeviceBatch device(batch);
  PrefixBeamOptions options;
  options.beam = 33;
  EXPECT_EQ(search_->PrefixBeam(device.rows, options, nullptr).code(), StatusCode::kInvalidArgument);
  options = {};
  ASSERT_TRUE(search_->PrefixBeam(device.rows, options, nullptr).ok());
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_NE(search_->PrefixResults(2).status().message().find("frame 2 of sequence 1"), std::string::npos);
  EXPECT_TRUE(search_->PrefixResults(1).ok());
  EXPECT_FALSE(search_->PrefixResults(3).ok());
  EXPECT_FALSE(search_->GreedyResults(1).ok());
  device.rows.max_rows = 10;
  ASSERT_TRUE(search_->PrefixBeam(device.rows, options, nullptr).ok());
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_NE(search_->PrefixResults(2).status().message().find("outside"), std::string::npos);
  device.rows.k = 9;
  EXPECT_FALSE(search_->PrefixBeam(device.rows, options, nullptr).ok());
}

// Not a test of speed: prints what a step of 64 utterances of 5 s takes, for whoever runs this on a GPU.
TEST_F(CudaCtcSearchTest, PrintsItsTime) {
  std::mt19937 random(39);
  for (const bool peaked : {true, false}) {
    PackedBatch batch;
    for (int b = 0; b < 64; ++b) {
      const testing::OwnedFrames frames =
          peaked ? testing::PeakedFrames(random, 124, 40) : RandomFrames(random, 124, 40, 40, 0, false);
      batch.Append(frames);
    }
    DeviceBatch device(batch);
    cudaEvent_t begin, end;
    ASSERT_CUDA(cudaEventCreate(&begin));
    ASSERT_CUDA(cudaEventCreate(&end));
    float best_prefix = INFINITY, best_greedy = INFINITY;
    const auto time = [&](auto&& launch, float* best) {
      float ms = 0;
      (void)cudaEventRecord(begin, nullptr);
      EXPECT_TRUE(launch().ok());
      (void)cudaEventRecord(end, nullptr);
      EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
      EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaSuccess);
      *best = std::min(*best, ms);
    };
    for (int i = 0; i < 20; ++i) {
      time([&] { return search_->PrefixBeam(device.rows, {}, nullptr); }, &best_prefix);
      time([&] { return search_->Greedy(device.rows, 0, nullptr); }, &best_greedy);
    }
    std::printf("64 utterances of 124 frames, %s: prefix beam 10: %.1f us, greedy %.1f us\n",
                peaked ? "peaked" : "flat", best_prefix * 1e3, best_greedy * 1e3);
    ASSERT_CUDA(cudaEventDestroy(begin));
    ASSERT_CUDA(cudaEventDestroy(end));
  }
}

}  // namespace
}  // namespace ting
