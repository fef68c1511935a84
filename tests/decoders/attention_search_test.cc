// tests/decoders/attention_search_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The model is a table of random distributions over the next token, one for each history: if a row's ancestors named
// a wrong path, the search would read another distribution.
#include "decoders/attention_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/status_macros.h"

namespace ting {
namespace {

using TokenList = std::vector<int32_t>;
constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

class TableModel {
 public:
  TableModel(int V, int32_t eos, uint32_t seed, int levels, float eos_bias)
      : V_(V), eos_(eos), seed_(seed), levels_(levels), eos_bias_(eos_bias) {}

  int V() const { return V_; }
  // Next-token log-probabilities after `history` (sos first). levels > 0: few distinct values, so that ties abound.
  std::vector<float> Next(int utterance, std::span<const int32_t> history) const {
    uint32_t hash = seed_ * 2654435761U + static_cast<uint32_t>(utterance);
    for (const int32_t token : history) hash = (hash ^ static_cast<uint32_t>(token + 1)) * 16777619U + 374761393U;
    std::mt19937 random(hash);
    std::uniform_real_distribution<float> uniform(0.05F, 1.0F);
    std::vector<float> p(V_);
    for (float& x : p) x = levels_ > 0 ? static_cast<float>(1 + random() % levels_) : uniform(random);
    p[eos_] *= eos_bias_;
    const float sum = std::accumulate(p.begin(), p.end(), 0.0F);
    for (float& x : p) x = std::log(x / sum);
    return p;
  }
  std::vector<int32_t> Best(const std::vector<float>& logp, int k) const {
    std::vector<int32_t> order(V_);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&logp](int a, int b) { return logp[a] > logp[b]; });
    order.resize(k);
    return order;
  }

 private:
  const int V_;
  const int32_t eos_;
  const uint32_t seed_;
  const int levels_;
  const float eos_bias_;
};

// Runs the table behind a pool of slots, as the decoder does, and checks what each call promises.
class TableScorer : public StepScorer {
 public:
  explicit TableScorer(const TableModel& model) : model_(model) {}

  Status Step(const StepRows& rows, int k, std::vector<float>* logp, std::vector<int32_t>* ids) override {
    EXPECT_GT(rows.size(), 0);
    EXPECT_TRUE(std::is_sorted(rows.sequence.begin(), rows.sequence.end()));
    logp->clear();
    ids->clear();
    for (int64_t row = 0; row < rows.size(); ++row) {
      EXPECT_EQ(rows.slots[row], static_cast<int32_t>(pool_.size())) << "slots are appended";
      pool_.push_back({rows.tokens[row], rows.sequence[row]});
      TokenList history;
      for (const int32_t slot : rows.path(row)) {
        EXPECT_EQ(pool_.at(slot).utterance, rows.sequence[row]);
        history.push_back(pool_.at(slot).token);
      }
      EXPECT_EQ(rows.path(row).back(), rows.slots[row]);
      EXPECT_EQ(rows.positions[row] + 1, static_cast<int32_t>(history.size()));
      const std::vector<float> next = model_.Next(rows.sequence[row], history);
      for (const int32_t id : model_.Best(next, k)) {
        ids->push_back(id);
        logp->push_back(next[id]);
      }
    }
    ++num_steps_;
    return {};
  }
  int64_t num_rows() const { return static_cast<int64_t>(pool_.size()); }
  int num_steps() const { return num_steps_; }

 private:
  struct Slot {
    int32_t token, utterance;
  };
  const TableModel& model_;
  std::vector<Slot> pool_;
  int num_steps_ = 0;
};

struct Plain {
  TokenList tokens;
  float score;
};

// The reference's procedure for one utterance with whole histories: N hypotheses always, ended ones extended with eos
// at 0, top N of the flattened N x N scores.
std::vector<Plain> PlainSearch(const TableModel& model, int utterance, int T, const AttentionSearchOptions& options) {
  const int N = options.beam;
  std::vector<TokenList> hyps(N, TokenList{options.sos_id});
  std::vector<float> scores(N, kMinusInf);
  std::vector<bool> ended(N, false);
  scores[0] = 0;
  for (int step = 1; step <= T && std::count(ended.begin(), ended.end(), true) < N; ++step) {
    std::vector<float> flat;
    std::vector<int32_t> preds;
    for (int n = 0; n < N; ++n) {
      const std::vector<float> next = model.Next(utterance, hyps[n]);
      const std::vector<int32_t> best = model.Best(next, N);
      for (int j = 0; j < N; ++j) {
        const float logp = !ended[n] ? next[best[j]] : j == 0 ? 0 : kMinusInf;
        flat.push_back(scores[n] + logp);
        preds.push_back(ended[n] ? options.eos_id : best[j]);
      }
    }
    std::vector<int> order(flat.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&flat](int a, int b) { return flat[a] > flat[b]; });
    std::vector<TokenList> next_hyps;
    for (int n = 0; n < N; ++n) {
      next_hyps.push_back(hyps[order[n] / N]);
      next_hyps.back().push_back(preds[order[n]]);
      scores[n] = flat[order[n]];
      ended[n] = next_hyps.back().back() == options.eos_id;
    }
    hyps = next_hyps;
  }
  std::vector<Plain> results;
  for (int n = 0; n < N; ++n) {
    TokenList tokens(hyps[n].begin() + 1, hyps[n].end());
    std::erase(tokens, options.eos_id);
    const float length = static_cast<float>(tokens.size());
    results.push_back({tokens, scores[n] / std::pow(length, options.length_penalty)});
  }
  std::stable_sort(results.begin(), results.end(), [](const Plain& a, const Plain& b) { return a.score > b.score; });
  return results;
}

TEST(AttentionSearch, EqualsThePlainSearchBitForBit) {
  std::mt19937 random(4);
  int64_t ended = 0, cut = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const int V = 3 + static_cast<int>(random() % 8);
    AttentionSearchOptions options;
    options.beam = 1 + static_cast<int>(random() % std::min(V, 6));
    options.vocab_size = V;
    options.eos_id = V - 1;
    options.sos_id = trial % 2 == 0 ? V - 1 : 0;
    options.length_penalty = trial % 3 == 0 ? 0.6F : 0.0F;
    const TableModel model(V, options.eos_id, random(), trial % 4, trial % 5 == 0 ? 4.0F : 1.0F);
    std::vector<int32_t> frames(1 + random() % 4);
    for (int32_t& T : frames) T = 1 + static_cast<int32_t>(random() % 9);
    SCOPED_TRACE(::testing::Message() << "trial " << trial << " V " << V << " beam " << options.beam);

    TableScorer scorer(model);
    const auto results = AttentionSearch(frames, options, &scorer);
    ASSERT_TRUE(results.ok()) << results.status().message();
    EXPECT_LE(scorer.num_rows(), MaxSearchRows(frames, options.beam));
    EXPECT_LE(scorer.num_steps(), *std::max_element(frames.begin(), frames.end()));
    ASSERT_EQ(results->size(), frames.size());
    for (size_t u = 0; u < frames.size(); ++u) {
      const std::vector<Plain> plain = PlainSearch(model, static_cast<int>(u), frames[u], options);
      const std::vector<AttentionHypothesis>& nbest = (*results)[u];
      ASSERT_EQ(nbest.size(), plain.size());
      for (size_t i = 0; i < nbest.size(); ++i) {
        EXPECT_EQ(nbest[i].tokens, plain[i].tokens) << "utterance " << u << " hypothesis " << i;
        EXPECT_EQ(nbest[i].score, static_cast<double>(plain[i].score)) << "utterance " << u << " hypothesis " << i;
        (nbest[i].ended ? ended : cut) += 1;
        EXPECT_TRUE(nbest[i].ended || static_cast<int32_t>(nbest[i].tokens.size()) == frames[u]);
      }
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(ended, 500) << "the tables must let hypotheses end";
  EXPECT_GT(cut, 500) << "and let them run to the last step";
}

// All complete sequences: those that end, and those cut at T tokens.
void Enumerate(const TableModel& model, int T, int32_t eos, TokenList history, float score, std::vector<Plain>* all) {
  if (static_cast<int>(history.size()) - 1 == T) {
    all->push_back({TokenList(history.begin() + 1, history.end()), score});
    return;
  }
  const std::vector<float> next = model.Next(0, history);
  for (int32_t v = 0; v < model.V(); ++v) {
    if (v == eos) {
      all->push_back({TokenList(history.begin() + 1, history.end()), score + next[v]});
    } else {
      TokenList longer = history;
      longer.push_back(v);
      Enumerate(model, T, eos, longer, score + next[v], all);
    }
  }
}

TEST(AttentionSearch, ABeamThatHoldsAllFindsAll) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const int V = 3, T = 1 + static_cast<int>(seed % 4);
    const TableModel model(V, 2, seed, 0, 1.0F);
    std::vector<Plain> all;
    Enumerate(model, T, 2, {2}, 0, &all);
    std::stable_sort(all.begin(), all.end(), [](const Plain& a, const Plain& b) { return a.score > b.score; });
    TableScorer scorer(model);
    const std::vector<int32_t> frames{T};
    const auto results =
        AttentionSearch(frames, {.beam = 200, .length_penalty = 0, .sos_id = 2, .eos_id = 2, .vocab_size = V}, &scorer);
    ASSERT_TRUE(results.ok()) << results.status().message();
    ASSERT_EQ((*results)[0].size(), all.size()) << "a beam wider than the vocabulary";
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ((*results)[0][i].tokens, all[i].tokens);
      EXPECT_EQ((*results)[0][i].score, static_cast<double>(all[i].score));
    }
  }
}

TEST(AttentionSearch, RowsAreOnlyForWhatGoesOn) {
  const TableModel model(4, 3, 1, 0, 1.0F);
  TableScorer scorer(model);
  const std::vector<int32_t> frames{0, 5, 1};
  EXPECT_EQ(MaxSearchRows(frames, 3), 0 + (1 + 4 * 3) + 1);
  const auto results = AttentionSearch(frames, {3, 0, 3, 3, 4}, &scorer);
  ASSERT_TRUE(results.ok());
  ASSERT_EQ((*results)[0].size(), 1U);
  EXPECT_TRUE((*results)[0][0].tokens.empty());
  EXPECT_EQ((*results)[0][0].score, 0);
  EXPECT_LT(scorer.num_rows(), MaxSearchRows(frames, 3)) << "eos is likely enough here to end one early";

  // eos certain: one step, one row an utterance.
  const TableModel silent(4, 3, 1, 0, 1e30F);
  TableScorer one(silent);
  const auto empty = AttentionSearch(frames, {1, 0, 3, 3, 4}, &one);
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(one.num_rows(), 2);
  EXPECT_EQ(one.num_steps(), 1);
  EXPECT_TRUE((*empty)[1][0].tokens.empty());
  EXPECT_TRUE((*empty)[1][0].ended);
}

TEST(AttentionSearch, NoUtterances) {
  const TableModel model(4, 3, 1, 0, 1.0F);
  TableScorer scorer(model);
  const auto results = AttentionSearch({}, {3, 0, 3, 3, 4}, &scorer);
  ASSERT_TRUE(results.ok());
  EXPECT_TRUE(results->empty());
  EXPECT_EQ(scorer.num_steps(), 0);
}

class BadScorer : public StepScorer {
 public:
  BadScorer(Status status, float logp, int extra) : status_(std::move(status)), logp_(logp), extra_(extra) {}
  Status Step(const StepRows& rows, int k, std::vector<float>* logp, std::vector<int32_t>* ids) override {
    logp->assign(rows.size() * k, logp_);
    ids->assign(rows.size() * k + extra_, 0);
    return status_;
  }

 private:
  const Status status_;
  const float logp_;
  const int extra_;
};

TEST(AttentionSearch, PassesFailuresOn) {
  const std::vector<int32_t> frames{3};
  const AttentionSearchOptions options{2, 0, 3, 3, 4};
  BadScorer broken(ResourceExhausted("no memory"), -1, 0), nan({}, NAN, 0), impossible({}, kMinusInf, 0);
  BadScorer miscounts({}, -1, 1), good({}, -1, 0);
  EXPECT_EQ(AttentionSearch(frames, options, &broken).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(AttentionSearch(frames, options, &nan).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(AttentionSearch(frames, options, &impossible).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(AttentionSearch(frames, options, &miscounts).status().code(), StatusCode::kInternal);
  EXPECT_TRUE(AttentionSearch(frames, options, &good).ok());
  EXPECT_FALSE(AttentionSearch(frames, {0, 0, 3, 3, 4}, &good).ok());
  EXPECT_FALSE(AttentionSearch(frames, {2, 0, 3, 3, 0}, &good).ok());
  EXPECT_FALSE(AttentionSearch(frames, {2, NAN, 3, 3, 4}, &good).ok());
}

}  // namespace
}  // namespace ting
