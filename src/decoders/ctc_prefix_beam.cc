// src/decoders/ctc_prefix_beam.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/ctc_prefix_beam.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/status_macros.h"

namespace ting {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// log(e^a + e^b), written as the reference writes it: log1p would round differently.
double LogAdd(double a, double b) {
  const double high = std::max(a, b);
  if (high == -kInf) return -kInf;
  const double low = std::min(a, b);
  return low == -kInf ? high : high + std::log(1.0 + std::exp(low - high));
}

}  // namespace

CtcPrefixBeam::CtcPrefixBeam(const PrefixBeamOptions& options) : options_(options) { Reset(); }

void CtcPrefixBeam::Reset() {
  num_frames_ = 0;
  prefixes_.assign(1, {-1, -1, 0});
  children_.Clear();
  times_.clear();
  // The empty prefix: as if a blank had come before, and (the reference's choice) both best paths at 0.
  beam_.assign(1, {0, 0.0, -kInf, 0.0, 0.0, -1, -1, 0.0});
}

Status CtcPrefixBeam::AcceptFrames(const CtcFrames& frames) {
  if (options_.beam < 1 || options_.token_beam < 1) {
    return InvalidArgument("prefix beam search: beams of {} prefixes and {} tokens; both must be at least 1",
                           options_.beam, options_.token_beam);
  }
  if (frames.num_frames > 0 && frames.k < options_.token_beam) {
    return InvalidArgument("prefix beam search: {} symbols a frame, but a beam of {} tokens; ask the model for more",
                           frames.k, options_.token_beam);
  }
  for (int32_t t = 0; t < frames.num_frames; ++t) {
    const float* logp = frames.frame_logp(t);
    const int32_t* ids = frames.frame_ids(t);
    for (int i = 0; i < options_.token_beam; ++i) {
      if (!(logp[i] < kInf) || ids[i] < 0) {
        return InvalidArgument("prefix beam search: symbol {} with log-probability {} in frame {}; check the model",
                               ids[i], logp[i], num_frames_);
      }
    }
    if (const auto blank = SkippedBlank(logp, ids)) {
      AcceptBlankAlone(*blank);
    } else {
      AcceptFrame(logp, ids);
    }
    ++num_frames_;
  }
  return {};
}

std::optional<float> CtcPrefixBeam::SkippedBlank(const float* logp, const int32_t* ids) const {
  for (int i = 0; i < options_.token_beam; ++i) {
    if (ids[i] == options_.blank_id && logp[i] > options_.blank_skip_logp) return logp[i];
  }
  return std::nullopt;
}

// What AddBlank and Prune would do: sums with one number keep the order of the scores.
void CtcPrefixBeam::AcceptBlankAlone(double logp) {
  for (Entry& entry : beam_) {
    const int32_t times = entry.times();
    const double viterbi = entry.viterbi();
    entry.score = entry.blank = entry.score + logp;
    entry.viterbi_blank = viterbi + logp;
    entry.token = entry.viterbi_token = -kInf;
    entry.times_blank = times, entry.times_token = -1;
  }
}

void CtcPrefixBeam::AcceptFrame(const float* logp, const int32_t* ids) {
  candidates_.clear();
  stay_.assign(beam_.size(), -1);
  for (int i = 0; i < options_.token_beam; ++i) {
    if (ids[i] == options_.blank_id) {
      AddBlank(logp[i]);
    } else {
      AddToken(ids[i], logp[i]);
    }
  }
  Prune();
}

void CtcPrefixBeam::AddBlank(double logp) {
  for (size_t i = 0; i < beam_.size(); ++i) {
    const Entry& entry = beam_[i];
    Candidate& stay = Stay(static_cast<int32_t>(i));
    stay.blank = LogAdd(stay.blank, entry.score + logp);
    stay.viterbi_blank = entry.viterbi() + logp;
    stay.times_blank = {entry.times(), false};
  }
}

void CtcPrefixBeam::AddToken(int32_t token, double logp) {
  // Which members of the beam are another member and this token: their extensions must meet them.
  child_.assign(beam_.size(), -1);
  for (size_t i = 0; i < beam_.size(); ++i) {
    const Prefix& prefix = prefixes_[beam_[i].prefix];
    if (prefix.token != token) continue;
    const size_t parent = prefixes_[prefix.parent].beam_index;
    if (parent < beam_.size() && beam_[parent].prefix == prefix.parent) child_[parent] = static_cast<int32_t>(i);
  }
  for (size_t i = 0; i < beam_.size(); ++i) {
    const Entry& entry = beam_[i];
    const int32_t index = static_cast<int32_t>(i);
    if (prefixes_[entry.prefix].token != token) {
      Extend(index, token, logp, entry.score, entry.viterbi(), entry.times());
    } else {  // the same token again: a longer run, or after a blank a second token
      Repeat(index, logp);
      Extend(index, token, logp, entry.blank, entry.viterbi_blank, entry.times_blank);
    }
  }
}

void CtcPrefixBeam::Repeat(int32_t index, double logp) {
  const Entry& entry = beam_[index];
  Candidate& stay = Stay(index);
  stay.token = LogAdd(stay.token, entry.token + logp);
  if (!(stay.viterbi_token < entry.viterbi_token + logp)) return;
  stay.viterbi_token = entry.viterbi_token + logp;
  if (!(stay.token_logp < logp)) return;  // an extension of this frame came first: its times stay
  stay.token_logp = logp;
  const int32_t last = entry.times_token;
  stay.times_token = {last < 0 ? -1 : times_[last].previous, true};
}

void CtcPrefixBeam::Extend(int32_t index, int32_t token, double logp, double from_sum, double from_viterbi,
                           int32_t times) {
  const int32_t child = child_[index];
  if (child < 0) {
    candidates_.push_back({beam_[index].prefix, token, -kInf, -kInf, -kInf, -kInf, -kInf, {}, {}});
  }
  Candidate& candidate = child < 0 ? candidates_.back() : Stay(child);
  candidate.token = LogAdd(candidate.token, from_sum + logp);
  if (!(candidate.viterbi_token < from_viterbi + logp)) return;
  candidate.viterbi_token = from_viterbi + logp;
  candidate.token_logp = logp;
  candidate.times_token = {times, true};
}

CtcPrefixBeam::Candidate& CtcPrefixBeam::Stay(int32_t index) {
  if (stay_[index] < 0) {
    stay_[index] = static_cast<int32_t>(candidates_.size());
    candidates_.push_back({beam_[index].prefix, -1, -kInf, -kInf, -kInf, -kInf, -kInf, {}, {}});
  }
  return candidates_[stay_[index]];
}

// The only place that ranks prefixes: a context or language model score would be added here.
double CtcPrefixBeam::TotalScore(const Candidate& candidate) const { return LogAdd(candidate.blank, candidate.token); }

void CtcPrefixBeam::Prune() {
  ranked_.clear();
  for (size_t i = 0; i < candidates_.size(); ++i) {
    ranked_.push_back({TotalScore(candidates_[i]), static_cast<int32_t>(i)});
  }
  const size_t kept = std::min(ranked_.size(), static_cast<size_t>(options_.beam));
  std::partial_sort(ranked_.begin(), ranked_.begin() + kept, ranked_.end(), [](const Ranked& a, const Ranked& b) {
    return a.score != b.score ? a.score > b.score : a.candidate < b.candidate;
  });
  next_beam_.clear();
  for (size_t i = 0; i < kept; ++i) {
    const Candidate& c = candidates_[ranked_[i].candidate];
    const int32_t prefix = c.extension < 0 ? c.parent : Intern(c.parent, c.extension);
    prefixes_[prefix].beam_index = static_cast<int32_t>(i);
    next_beam_.push_back({prefix, c.blank, c.token, c.viterbi_blank, c.viterbi_token, Materialize(c.times_blank),
                          Materialize(c.times_token), ranked_[i].score});
  }
  beam_.swap(next_beam_);
}

int32_t CtcPrefixBeam::Intern(int32_t parent, int32_t token) {
  const int32_t next = static_cast<int32_t>(prefixes_.size());
  const int32_t prefix = children_.FindOrInsert(parent, token, next);
  if (prefix == next) prefixes_.push_back({parent, token, -1});
  return prefix;
}

int32_t CtcPrefixBeam::Materialize(const TimesEdit& edit) {
  if (!edit.append) return edit.base;
  times_.push_back({edit.base, num_frames_});
  return static_cast<int32_t>(times_.size()) - 1;
}

std::vector<PrefixHypothesis> CtcPrefixBeam::NBest(int n) const {
  std::vector<PrefixHypothesis> nbest;
  const size_t count = n < 0 ? beam_.size() : std::min(beam_.size(), static_cast<size_t>(n));
  for (size_t i = 0; i < count; ++i) {
    const Entry& entry = beam_[i];
    if (entry.score == -kInf && i > 0) break;  // the rest is impossible, too
    PrefixHypothesis& hypothesis = nbest.emplace_back();
    for (int32_t p = entry.prefix; p > 0; p = prefixes_[p].parent) hypothesis.tokens.push_back(prefixes_[p].token);
    for (int32_t t = entry.times(); t >= 0; t = times_[t].previous) hypothesis.times.push_back(times_[t].frame);
    std::reverse(hypothesis.tokens.begin(), hypothesis.tokens.end());
    std::reverse(hypothesis.times.begin(), hypothesis.times.end());
    hypothesis.score = entry.score;
    hypothesis.viterbi_score = entry.viterbi();
    hypothesis.blank_score = entry.blank;
    hypothesis.token_score = entry.token;
  }
  return nbest;
}

}  // namespace ting
