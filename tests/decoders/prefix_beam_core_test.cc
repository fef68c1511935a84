// tests/decoders/prefix_beam_core_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The algorithm of the CUDA searches, on the CPU: with the CPU search's sum of logarithms it must be that search bit
// for bit, ties and returning prefixes included; with its own, wherever no two scores are almost equal.
#include "decoders/cuda/prefix_beam_core.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/decoders/search_emulation.h"

namespace ting {
namespace {

using testing::CpuPrefixBeam;
using testing::ExpectSameNBest;
using testing::HostTableLogAdd;
using testing::LaneEmulator;
using testing::OwnedFrames;
using testing::PackedBatch;
using testing::RandomFrames;
using testing::SearchEmulation;
using testing::StdLogAdd;

template <class LogAdd>
void CompareBatch(const PackedBatch& batch, const PrefixBeamOptions& options, LogAdd log_add, double tolerance,
                  bool descending = false) {
  SearchEmulation emulation(batch, options.beam);
  const cuda_ctc::PrefixBeamSettings settings{options.beam, options.token_beam, options.blank_id,
                                              options.blank_skip_logp};
  const auto actual = emulation.PrefixBeam(settings, log_add, descending);
  ASSERT_TRUE(actual.ok()) << actual.status().message();
  const auto expected = CpuPrefixBeam(batch, options);
  for (int b = 0; b < batch.num_sequences(); ++b) {
    SCOPED_TRACE(::testing::Message() << "sequence " << b);
    ExpectSameNBest(actual.status().ok() ? (*actual)[b] : expected[b], expected[b], tolerance);
  }
}

TEST(TableLogAdd, IsWithinItsBound) {
  const cuda_ctc::TableLogAdd add = HostTableLogAdd();
  double worst = 0;
  for (int i = 0; i <= 400000; ++i) {
    const double x = -40.0 * i / 400000;
    const double exact = static_cast<double>(std::log1p(std::exp(static_cast<long double>(x))));
    const double sum = add(0, x);
    ASSERT_EQ(sum, add(x, 0));
    ASSERT_GE(sum, 0);
    worst = std::max(worst, std::abs(sum - exact));
  }
  EXPECT_LT(worst, 2.5e-16);
  EXPECT_EQ(add(-INFINITY, -INFINITY), -INFINITY);
  EXPECT_EQ(add(-3, -INFINITY), -3);
  EXPECT_EQ(add(-INFINITY, -3), -3);
  EXPECT_EQ(add(-500, -3), -3);
}

TEST(PrefixBeamCore, EqualsTheCpuSearchBitForBit) {
  std::mt19937 random(17);
  for (int trial = 0; trial < 250; ++trial) {
    const int V = 2 + static_cast<int>(random() % 7), beam = 1 + static_cast<int>(random() % 32);
    const int token_beam = std::min(V, 1 + static_cast<int>(random() % 8));
    const int levels = static_cast<int>(random() % 4), blank = static_cast<int>(random() % V);
    PackedBatch batch;
    for (int b = 0; b < 3; ++b) {
      batch.Append(RandomFrames(random, static_cast<int>(random() % 30), V, V, levels, trial % 3 == 0));
    }
    SCOPED_TRACE(::testing::Message() << "trial " << trial << " V " << V << " beam " << beam << " tokens " << token_beam
                                      << " levels " << levels << " blank " << blank);
    CompareBatch(batch, {beam, token_beam, blank}, StdLogAdd(), 0, trial % 2 == 1);
    if (HasFailure()) return;
  }
}

TEST(PrefixBeamCore, EqualsTheCpuSearchOnWideBeams) {
  std::mt19937 random(18);
  for (int trial = 0; trial < 40; ++trial) {
    const int V = 40, beam = trial % 2 == 0 ? 32 : 10, token_beam = trial % 4 < 2 ? 32 : 10;
    PackedBatch batch;
    batch.Append(RandomFrames(random, 40, V, 32, trial % 5, trial % 3 == 0));
    SCOPED_TRACE(::testing::Message() << "trial " << trial);
    CompareBatch(batch, {beam, token_beam, 0}, StdLogAdd(), 0);
    if (HasFailure()) return;
  }
}

// One likely symbol a frame, as a trained model gives: prefixes leave the beam, longer ones stay, and they come back,
// also two and more tokens above what stayed.
TEST(PrefixBeamCore, EqualsTheCpuSearchOnPeaks) {
  std::mt19937 random(25);
  for (int trial = 0; trial < 300; ++trial) {
    const int V = 3 + static_cast<int>(random() % 4), beam = 3 + static_cast<int>(random() % 14);
    PackedBatch batch;
    batch.Append(testing::PeakedFrames(random, 40, V));
    SCOPED_TRACE(::testing::Message() << "trial " << trial << " V " << V << " beam " << beam);
    CompareBatch(batch, {beam, V, 0}, StdLogAdd(), 0);
    if (HasFailure()) return;
  }
}

// What finding a prefix again rests on: members that begin with the same tokens name the same nodes for them.
void CheckNodes(const cuda_ctc::PrefixMembers& members, int size, const std::vector<cuda_ctc::TrieNode>& nodes) {
  std::map<int32_t, std::pair<int32_t, int32_t>> up_of;
  std::map<std::pair<int32_t, int32_t>, int32_t> node_of;
  for (int p = 0; p < size; ++p) {
    for (int32_t node = members.node[p]; node > 0; node = nodes[node - 1].parent) {
      const std::pair<int32_t, int32_t> up{nodes[node - 1].parent, nodes[node - 1].token};
      ASSERT_EQ(up_of.try_emplace(node, up).first->second, up);
      ASSERT_EQ(node_of.try_emplace(up, node).first->second, node) << "two nodes for one prefix";
    }
  }
}

TEST(PrefixBeamCore, APrefixHasOneNode) {
  std::mt19937 random(26);
  LaneEmulator warp(cuda_ctc::kMaxBeam);
  for (int trial = 0; trial < 60 && !HasFailure(); ++trial) {
    const int V = 3 + trial % 2, beam = 8 * (1 + trial % 4), T = 100;
    const OwnedFrames frames = testing::PeakedFrames(random, T, V);
    cuda_ctc::PrefixBeamMemory memory;
    std::vector<cuda_ctc::TrieNode> nodes(T * beam);
    std::vector<int32_t> times(T * beam);
    warp.Run([&](LaneEmulator::Lanes lanes) {
      cuda_ctc::PrefixBeamCore<LaneEmulator::Lanes, StdLogAdd> core(lanes, {}, {beam, V, 0, INFINITY}, &memory,
                                                                    nodes.data(), times.data());
      core.Start();
      const int lane = lanes.lane(), rank = std::min(lane, V - 1);
      for (int t = 0; t < T; ++t) {
        core.AcceptFrame(t, {frames.logp[t * V + rank], frames.ids[t * V + rank]});
        if (lane == 0) CheckNodes(core.members(), core.size(), nodes);
        lanes.Sync();
      }
    });
  }
}

// Small alphabets and long lattices, beside utterances of no frame and of one.
TEST(PrefixBeamCore, EqualsTheCpuSearchOnLongLattices) {
  std::mt19937 random(19);
  for (const int V : {2, 3, 4, 12}) {
    PackedBatch batch;
    batch.Append(RandomFrames(random, 700, V, V, V == 3 ? 2 : 0, false));
    batch.Append(RandomFrames(random, 0, V, V, 0, false));
    batch.Append(RandomFrames(random, 1, V, V, 0, false));
    SCOPED_TRACE(::testing::Message() << "V " << V);
    CompareBatch(batch, {16, V, 0}, StdLogAdd(), 0);
    if (HasFailure()) return;
  }
}

TEST(PrefixBeamCore, ItsOwnSumGivesTheSameLists) {
  std::mt19937 random(20);
  for (int trial = 0; trial < 150; ++trial) {
    const int V = 3 + static_cast<int>(random() % 30), beam = 1 + static_cast<int>(random() % 32);
    PackedBatch batch;
    batch.Append(RandomFrames(random, 5 + static_cast<int>(random() % 60), V, V, 0, trial % 4 == 0));
    SCOPED_TRACE(::testing::Message() << "trial " << trial << " V " << V << " beam " << beam);
    CompareBatch(batch, {beam, std::min(V, 16), 0}, HostTableLogAdd(), 1e-9);
    if (HasFailure()) return;
  }
}

// Ties, impossible symbols, a blank that is not among those looked at, and thresholds that skip from most frames to
// few.
TEST(PrefixBeamCore, BlankSkipEqualsTheCpuSearchBitForBit) {
  std::mt19937 random(27);
  for (int trial = 0; trial < 250; ++trial) {
    const int V = 2 + static_cast<int>(random() % 7), beam = 1 + static_cast<int>(random() % 32);
    const int token_beam = std::min(V, 1 + static_cast<int>(random() % 8));
    const int levels = static_cast<int>(random() % 4), blank = static_cast<int>(random() % V);
    const float skip = std::log(0.05F * static_cast<float>(1 + random() % 12));
    PackedBatch batch;
    for (int b = 0; b < 3; ++b) {
      batch.Append(RandomFrames(random, static_cast<int>(random() % 40), V, V, levels, trial % 3 == 0));
    }
    SCOPED_TRACE(::testing::Message() << "trial " << trial << " V " << V << " beam " << beam << " tokens " << token_beam
                                      << " levels " << levels << " blank " << blank << " skip " << skip);
    CompareBatch(batch, {beam, token_beam, blank, skip}, StdLogAdd(), 0, trial % 2 == 1);
    if (HasFailure()) return;
  }
}

TEST(PrefixBeamCore, BlankSkipIsTheSearchWithBlankAlone) {
  std::mt19937 random(21);
  PackedBatch batch;
  batch.Append(RandomFrames(random, 200, 6, 6, 0, false));
  const float threshold = std::log(0.3F);
  SearchEmulation emulation(batch, 8);
  const auto actual = emulation.PrefixBeam({8, 6, 0, threshold}, StdLogAdd());
  ASSERT_TRUE(actual.ok());
  PackedBatch masked = batch;
  int skipped = 0;
  for (int t = 0; t < 200; ++t) {
    float blank = -INFINITY;
    for (int i = t * 6; i < t * 6 + 6; ++i) blank = batch.ids[i] == 0 ? batch.logp[i] : blank;
    skipped += blank > threshold;
    for (int i = t * 6; blank > threshold && i < t * 6 + 6; ++i) {
      if (batch.ids[i] != 0) masked.logp[i] = -INFINITY;
    }
  }
  EXPECT_GT(skipped, 10);
  ExpectSameNBest((*actual)[0], CpuPrefixBeam(masked, {.beam = 8, .token_beam = 6})[0], 0);
}

TEST(PrefixBeamCore, RefusesWhatTheCpuRefuses) {
  std::mt19937 random(22);
  PackedBatch batch;
  batch.Append(RandomFrames(random, 9, 6, 6, 0, false));
  const auto refused = [&batch] {
    SearchEmulation emulation(batch, 4);
    return emulation.PrefixBeam({4, 4, 0, INFINITY}, StdLogAdd()).status();
  };
  EXPECT_TRUE(refused().ok());
  batch.logp[6 * 6 + 5] = NAN;
  EXPECT_TRUE(refused().ok()) << "beyond the token beam";
  for (const float bad : {NAN, INFINITY}) {
    batch.logp[6 * 6 + 3] = bad;
    EXPECT_EQ(refused().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(refused().message().find("frame 6 of sequence 0"), std::string::npos);
  }
  batch.logp[6 * 6 + 3] = -1;
  batch.ids[6 * 6] = -1;
  EXPECT_FALSE(refused().ok());
}

TEST(PrefixBeamCore, RefusesRowsOutsideTheBuffers) {
  std::mt19937 random(23);
  PackedBatch batch;
  batch.Append(RandomFrames(random, 9, 6, 6, 0, false));
  SearchEmulation emulation(batch, 4);
  for (const int end : {10, -5}) {
    batch.row_offsets[1] = 9;
    PackedBatch wrong = batch;
    wrong.row_offsets = {end < 0 ? -1 : 0, end};
    const cuda_ctc::SearchRows rows{wrong.logp.data(), wrong.ids.data(), wrong.row_offsets.data(), 6, 9};
    EXPECT_FALSE(cuda_ctc::SequenceRows(rows, 0).inside);
  }
}

TEST(GreedyUtterance, EqualsTheCpuSearchBitForBit) {
  std::mt19937 random(24);
  for (int trial = 0; trial < 100; ++trial) {
    const int V = 2 + trial % 5, k = 1 + trial % 2;
    PackedBatch batch;
    for (const int T : {trial % 40, 0, 1, 32, 33, 100}) batch.Append(RandomFrames(random, T, V, k, trial % 3, false));
    SearchEmulation emulation(batch, 1);
    const auto actual = emulation.Greedy(trial % V);
    ASSERT_TRUE(actual.ok());
    for (int b = 0; b < batch.num_sequences(); ++b) {
      const GreedyResult expected = CtcGreedySearch(batch.frames(b), trial % V);
      EXPECT_EQ((*actual)[b].tokens, expected.tokens);
      EXPECT_EQ((*actual)[b].times, expected.times);
      EXPECT_EQ((*actual)[b].confidences, expected.confidences);
      EXPECT_EQ((*actual)[b].score, expected.score);
    }
  }
}

}  // namespace
}  // namespace ting
