// tests/decoders/search_emulation.h
// SPDX-License-Identifier: Apache-2.0
//
// The CUDA searches on emulated lanes, and packed batches for them. Buffers are exactly as large as a step needs and
// end in canaries, since the emulation finds what the GPU would only overwrite.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <vector>

#include "decoders/ctc_greedy.h"
#include "decoders/ctc_prefix_beam.h"
#include "decoders/cuda/log_add.h"
#include "decoders/cuda/search_results.h"
#include "decoders/cuda/search_warp.h"
#include "tests/decoders/decoder_testing.h"
#include "tests/support/lane_emulator.h"

namespace ting::testing {

// The CPU search's sum, rounding included.
struct StdLogAdd {
  double operator()(double a, double b) const {
    const double high = std::max(a, b), low = std::min(a, b);
    if (high == -INFINITY || low == -INFINITY) return high;
    return high + std::log(1.0 + std::exp(low - high));
  }
};

inline cuda_ctc::TableLogAdd HostTableLogAdd() {
  static const std::vector<cuda_ctc::SoftplusCell> table = [] {
    std::vector<cuda_ctc::SoftplusCell> cells(cuda_ctc::kSoftplusCells);
    cuda_ctc::MakeSoftplusTable(cells.data());
    return cells;
  }();
  return {table.data()};
}

struct PackedBatch {
  std::vector<float> logp;
  std::vector<int32_t> ids;
  std::vector<int32_t> row_offsets{0};
  int32_t k = 0;

  void Append(const OwnedFrames& frames) {
    k = frames.k;
    logp.insert(logp.end(), frames.logp.begin(), frames.logp.end());
    ids.insert(ids.end(), frames.ids.begin(), frames.ids.end());
    row_offsets.push_back(row_offsets.back() + frames.num_frames);
  }
  int num_sequences() const { return static_cast<int>(row_offsets.size()) - 1; }
  CtcFrames frames(int b) const {
    return CtcFrames{logp.data(), ids.data(), row_offsets.back(), k}.Slice(row_offsets[b],
                                                                           row_offsets[b + 1] - row_offsets[b]);
  }
  cuda_ctc::SearchRows rows() const { return {logp.data(), ids.data(), row_offsets.data(), k, row_offsets.back()}; }
};

template <typename T>
class GuardedArray {
 public:
  explicit GuardedArray(int64_t size) : values_(size + kGuard), size_(size) {
    std::memset(values_.data(), kByte, values_.size() * sizeof(T));
  }
  ~GuardedArray() {
    const auto* bytes = reinterpret_cast<const unsigned char*>(values_.data() + size_);
    for (size_t i = 0; i < kGuard * sizeof(T); ++i) {
      if (bytes[i] == kByte) continue;
      ADD_FAILURE() << "written " << i << " bytes after the end";
      break;
    }
  }
  T* data() { return values_.data(); }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr unsigned char kByte = 0xA5;
  std::vector<T> values_;
  const int64_t size_;
};

class SearchEmulation {
 public:
  SearchEmulation(const PackedBatch& batch, int beam)
      : batch_(batch),
        beam_(beam),
        nodes_(slots()),
        times_(slots()),
        staged_tokens_(slots()),
        staged_times_(slots()),
        sequences_(batch.num_sequences()),
        hypotheses_(int64_t{batch.num_sequences()} * beam),
        tokens_(slots()),
        out_times_(slots()),
        peaks_(batch.row_offsets.back()) {}

  template <class LogAdd>
  Result<std::vector<std::vector<PrefixHypothesis>>> PrefixBeam(const cuda_ctc::PrefixBeamSettings& settings,
                                                                LogAdd log_add, bool descending = false) {
    LaneEmulator warp(cuda_ctc::kMaxBeam, descending);
    for (int b = 0; b < batch_.num_sequences(); ++b) {
      const auto memory = std::make_unique<cuda_ctc::PrefixBeamMemory>();
      std::memset(static_cast<void*>(memory.get()), 0xFF, sizeof(*memory));  // NaN, as shared memory may be
      warp.Run([&](LaneEmulator::Lanes lanes) {
        cuda_ctc::PrefixBeamUtterance(lanes, log_add, batch_.rows(), b, settings, memory.get(), scratch(), output());
      });
    }
    return cuda_ctc::ReadPrefixHypotheses(output(), batch_.num_sequences(), beam_);
  }
  Result<std::vector<GreedyResult>> Greedy(int32_t blank_id) {
    LaneEmulator warp(cuda_ctc::kMaxBeam);
    for (int b = 0; b < batch_.num_sequences(); ++b) {
      warp.Run([&](LaneEmulator::Lanes lanes) {
        cuda_ctc::GreedyUtterance(lanes, batch_.rows(), b, blank_id, scratch(), output());
      });
    }
    return cuda_ctc::ReadGreedyResults(output(), batch_.num_sequences());
  }

 private:
  int64_t slots() const { return int64_t{batch_.row_offsets.back()} * beam_; }
  cuda_ctc::SearchScratch scratch() {
    return {nodes_.data(), times_.data(), staged_tokens_.data(), staged_times_.data()};
  }
  cuda_ctc::SearchOutput output() {
    return {sequences_.data(), hypotheses_.data(), tokens_.data(), out_times_.data(), peaks_.data()};
  }

  const PackedBatch& batch_;
  const int beam_;
  GuardedArray<cuda_ctc::TrieNode> nodes_;
  GuardedArray<int32_t> times_, staged_tokens_, staged_times_;
  GuardedArray<cuda_ctc::SequenceHeader> sequences_;
  GuardedArray<cuda_ctc::HypothesisHeader> hypotheses_;
  GuardedArray<int32_t> tokens_, out_times_;
  GuardedArray<float> peaks_;
};

// The CPU search on each sequence.
inline std::vector<std::vector<PrefixHypothesis>> CpuPrefixBeam(const PackedBatch& batch,
                                                                const PrefixBeamOptions& options) {
  std::vector<std::vector<PrefixHypothesis>> all;
  for (int b = 0; b < batch.num_sequences(); ++b) {
    CtcPrefixBeam search(options);
    const Status status = search.AcceptFrames(batch.frames(b));
    EXPECT_TRUE(status.ok()) << status.message();
    all.push_back(search.NBest());
  }
  return all;
}

// tolerance 0: the same bits.
inline void ExpectSameNBest(const std::vector<PrefixHypothesis>& actual, const std::vector<PrefixHypothesis>& expected,
                            double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  const auto expect_score = [tolerance](double a, double b, const char* which) {
    EXPECT_TRUE(a == b || std::abs(a - b) <= tolerance) << which << " " << a << " instead of " << b;
  };
  for (size_t i = 0; i < actual.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "hypothesis " << i);
    ASSERT_EQ(actual[i].tokens, expected[i].tokens);
    EXPECT_EQ(actual[i].times, expected[i].times);
    expect_score(actual[i].score, expected[i].score, "score");
    expect_score(actual[i].viterbi_score, expected[i].viterbi_score, "viterbi score");
    expect_score(actual[i].blank_score, expected[i].blank_score, "blank score");
    expect_score(actual[i].token_score, expected[i].token_score, "token score");
  }
}

// A lattice of which about a tenth is impossible, with equal values if levels > 0.
inline OwnedFrames RandomFrames(std::mt19937& random, int T, int V, int k, int levels, bool impossible) {
  std::vector<float> matrix = RandomMatrix(random, T, V, levels);
  for (float& value : matrix) {
    if (impossible && random() % 10 == 0) value = -INFINITY;
  }
  return TopK(matrix, V, k);
}

// Frames whose symbols have very different probabilities, every third frame those of one before.
inline OwnedFrames PeakedFrames(std::mt19937& random, int T, int V) {
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> matrix;
  for (int t = 0; t < T; ++t) {
    if (t > 6 && random() % 3 == 0) {
      const size_t from = (t - 1 - random() % 6) * V;
      for (int v = 0; v < V; ++v) matrix.push_back(matrix[from + v]);
      continue;
    }
    std::vector<float> row(V);
    for (float& p : row) p = std::exp(normal(random));
    const float sum = std::accumulate(row.begin(), row.end(), 0.0F);
    for (const float p : row) matrix.push_back(std::log(p / sum));
  }
  return TopK(matrix, V, V);
}

}  // namespace ting::testing
