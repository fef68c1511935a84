// src/decoders/attention_search.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/attention_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/status_macros.h"

namespace ting {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Word {  // one token of a history
  int32_t previous;
  int32_t token;
};

struct Member {  // of a beam
  float score = 0;
  int32_t history = -1;  // in words_
  int32_t row = -1;      // of the current step, -1: ended
  bool ended = false;
};

struct Candidate {
  float score;
  int32_t parent;  // in the beam
  int32_t rank;    // of the token among the parent's
};

class Search {
 public:
  Search(std::span<const int32_t> encoder_frames, const AttentionSearchOptions& options, StepScorer* scorer)
      : options_(options), frames_(encoder_frames), k_(std::min(options.beam, options.vocab_size)), scorer_(scorer) {}

  Status Run() {
    Start();
    for (int32_t step = 1; rows_.size() > 0; ++step) {
      TING_RETURN_IF_ERROR(scorer_->Step(rows_, k_, &logp_, &ids_));
      TING_RETURN_IF_ERROR(CheckStep());
      next_rows_.Clear();
      for (size_t u = 0; u < beams_.size(); ++u) {
        if (HasRows(beams_[u])) Advance(static_cast<int32_t>(u), step);
      }
      std::swap(rows_, next_rows_);
    }
    return {};
  }

  std::vector<std::vector<AttentionHypothesis>> Results() const {
    std::vector<std::vector<AttentionHypothesis>> results;
    for (const std::vector<Member>& beam : beams_) {
      std::vector<AttentionHypothesis>& nbest = results.emplace_back();
      for (const Member& member : beam) nbest.push_back(Hypothesis(member));
      std::stable_sort(nbest.begin(), nbest.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
    }
    return results;
  }

 private:
  static bool HasRows(const std::vector<Member>& beam) {
    return std::any_of(beam.begin(), beam.end(), [](const Member& member) { return member.row >= 0; });
  }

  void Start() {
    beams_.assign(frames_.size(), std::vector<Member>(1));
    for (size_t u = 0; u < frames_.size(); ++u) {
      if (frames_[u] <= 0) continue;
      beams_[u][0].row = static_cast<int32_t>(rows_.size());
      rows_.Append(options_.sos_id, next_slot_++, {}, static_cast<int32_t>(u));
    }
  }

  Status CheckStep() const {
    const size_t expected = static_cast<size_t>(rows_.size()) * k_;
    if (logp_.size() != expected || ids_.size() != expected) {
      return Internal("attention search: the scorer gave {} log-probabilities and {} ids for {} rows of {}",
                      logp_.size(), ids_.size(), rows_.size(), k_);
    }
    for (size_t i = 0; i < expected; ++i) {
      const bool best = i % k_ == 0;  // the best token of a row must be possible, the others may not be
      if (!(logp_[i] < kInfinity) || (best && logp_[i] == -kInfinity)) {
        return InvalidArgument("attention search: log-probability {} from the decoder; check the model's weights",
                               logp_[i]);
      }
    }
    return {};
  }

  // One step of one utterance: its new beam, and the rows of the members that go on.
  void Advance(int32_t utterance, int32_t step) {
    std::vector<Member>& beam = beams_[utterance];
    Select(beam);
    next_beam_.clear();
    for (const Candidate& candidate : candidates_) next_beam_.push_back(Continue(beam[candidate.parent], candidate));
    if (step < frames_[utterance]) {
      for (size_t i = 0; i < next_beam_.size(); ++i) {
        Member& member = next_beam_[i];
        if (member.ended) continue;
        const int32_t parent_row = beam[candidates_[i].parent].row;
        member.row = static_cast<int32_t>(next_rows_.size());
        next_rows_.Append(words_[member.history].token, next_slot_++, rows_.path(parent_row), utterance);
      }
    }
    beam.swap(next_beam_);
  }

  // candidates_: the best continuations of `beam`, best first. What cannot be (score -inf) is no candidate.
  void Select(const std::vector<Member>& beam) {
    candidates_.clear();
    for (size_t i = 0; i < beam.size(); ++i) {
      const int32_t parent = static_cast<int32_t>(i);
      if (beam[i].ended) {
        candidates_.push_back({beam[i].score, parent, 0});
        continue;
      }
      for (int32_t rank = 0; rank < k_; ++rank) {
        const float score = beam[i].score + logp_[int64_t{beam[i].row} * k_ + rank];
        if (score > -kInfinity) candidates_.push_back({score, parent, rank});
      }
    }
    const size_t kept = std::min(candidates_.size(), static_cast<size_t>(options_.beam));
    std::partial_sort(candidates_.begin(), candidates_.begin() + kept, candidates_.end(),
                      [](const Candidate& a, const Candidate& b) {
                        if (a.score != b.score) return a.score > b.score;
                        return a.parent != b.parent ? a.parent < b.parent : a.rank < b.rank;
                      });
    candidates_.resize(kept);
  }

  Member Continue(const Member& parent, const Candidate& candidate) {
    Member member = parent;
    member.score = candidate.score;
    member.row = -1;
    if (parent.ended) return member;
    const int32_t token = ids_[int64_t{parent.row} * k_ + candidate.rank];
    member.ended = token == options_.eos_id;
    if (member.ended) return member;
    member.history = static_cast<int32_t>(words_.size());
    words_.push_back({parent.history, token});
    return member;
  }

  AttentionHypothesis Hypothesis(const Member& member) const {
    AttentionHypothesis hypothesis;
    for (int32_t w = member.history; w >= 0; w = words_[w].previous) hypothesis.tokens.push_back(words_[w].token);
    std::reverse(hypothesis.tokens.begin(), hypothesis.tokens.end());
    hypothesis.decoder_score = member.score;
    const float length = static_cast<float>(hypothesis.tokens.size());
    const float score = member.score / std::pow(length, options_.length_penalty);
    hypothesis.score = std::isnan(score) ? 0 : score;  // 0 / 0: an empty hypothesis that is certain
    hypothesis.ended = member.ended;
    return hypothesis;
  }

  const AttentionSearchOptions options_;
  const std::span<const int32_t> frames_;
  const int32_t k_;
  StepScorer* const scorer_;
  int32_t next_slot_ = 0;
  std::vector<std::vector<Member>> beams_;  // [B]
  std::vector<Word> words_;
  TreeRows rows_, next_rows_;
  std::vector<float> logp_;   // [U, k]
  std::vector<int32_t> ids_;  // [U, k]
  std::vector<Candidate> candidates_;
  std::vector<Member> next_beam_;
};

}  // namespace

int64_t MaxSearchRows(std::span<const int32_t> encoder_frames, int beam) {
  int64_t rows = 0;
  for (const int32_t T : encoder_frames) rows += T > 0 ? 1 + int64_t{T - 1} * beam : 0;
  return rows;
}

Result<std::vector<std::vector<AttentionHypothesis>>> AttentionSearch(std::span<const int32_t> encoder_frames,
                                                                      const AttentionSearchOptions& options,
                                                                      StepScorer* scorer) {
  if (options.beam < 1 || options.vocab_size < 1) {
    return InvalidArgument("attention search: beam {} and vocabulary {}; both must be at least 1", options.beam,
                           options.vocab_size);
  }
  if (!std::isfinite(options.length_penalty)) {
    return InvalidArgument("attention search: length penalty {} is not finite", options.length_penalty);
  }
  Search search(encoder_frames, options, scorer);
  TING_RETURN_IF_ERROR(search.Run());
  return search.Results();
}

}  // namespace ting
