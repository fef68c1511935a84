// tests/decoders/plain_prefix_beam.h
// SPDX-License-Identifier: Apache-2.0
//
// The prefix beam search written plainly: whole prefixes and whole lists of times are copied, prefixes are found by
// linear search in the order in which they were first touched. The oracle for ties and times of the real one.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/decoders/decoder_testing.h"

namespace ting::testing {

constexpr double kMinusInf = -std::numeric_limits<double>::infinity();

inline double PlainLogAdd(double a, double b) {
  if (a == kMinusInf && b == kMinusInf) return kMinusInf;
  const double high = std::max(a, b);
  return high + std::log(std::exp(a - high) + std::exp(b - high));
}

struct PlainHypothesis {
  TokenList prefix;
  double s = kMinusInf, ns = kMinusInf, v_s = kMinusInf, v_ns = kMinusInf, current = kMinusInf;
  TokenList times_s, times_ns;

  double score() const { return PlainLogAdd(s, ns); }
  double viterbi() const { return v_s > v_ns ? v_s : v_ns; }
  const TokenList& times() const { return v_s > v_ns ? times_s : times_ns; }
};

class PlainPrefixBeam {
 public:
  explicit PlainPrefixBeam(int beam) : beam_(beam) {
    PlainHypothesis start;
    start.s = start.v_s = start.v_ns = 0;
    hypotheses_ = {start};
  }

  const std::vector<PlainHypothesis>& Decode(const CtcFrames& frames, int blank) {
    for (int t = 0; t < frames.num_frames; ++t) {
      next_.clear();
      for (int i = 0; i < frames.k; ++i) {
        for (const PlainHypothesis& h : hypotheses_) Step(h, frames.frame_ids(t)[i], frames.frame_logp(t)[i], t, blank);
      }
      std::stable_sort(next_.begin(), next_.end(),
                       [](const PlainHypothesis& a, const PlainHypothesis& b) { return a.score() > b.score(); });
      if (static_cast<int>(next_.size()) > beam_) next_.resize(beam_);
      hypotheses_ = next_;
    }
    return hypotheses_;
  }

 private:
  PlainHypothesis& Touch(const TokenList& prefix) {
    for (PlainHypothesis& h : next_) {
      if (h.prefix == prefix) return h;
    }
    next_.emplace_back().prefix = prefix;
    return next_.back();
  }
  void Step(const PlainHypothesis& h, int u, double logp, int t, int blank) {
    if (u == blank) {
      PlainHypothesis& same = Touch(h.prefix);
      same.s = PlainLogAdd(same.s, h.score() + logp);
      same.v_s = h.viterbi() + logp;
      same.times_s = h.times();
      return;
    }
    const bool repeats = !h.prefix.empty() && h.prefix.back() == u;
    if (repeats) {
      PlainHypothesis& same = Touch(h.prefix);
      same.ns = PlainLogAdd(same.ns, h.ns + logp);
      if (same.v_ns < h.v_ns + logp) {
        same.v_ns = h.v_ns + logp;
        if (same.current < logp) {
          same.current = logp;
          same.times_ns = h.times_ns;
          same.times_ns.back() = t;
        }
      }
    }
    TokenList prefix = h.prefix;
    prefix.push_back(u);
    PlainHypothesis& longer = Touch(prefix);
    longer.ns = PlainLogAdd(longer.ns, (repeats ? h.s : h.score()) + logp);
    const double viterbi = (repeats ? h.v_s : h.viterbi()) + logp;
    if (longer.v_ns < viterbi) {
      longer.v_ns = viterbi;
      longer.current = logp;
      longer.times_ns = repeats ? h.times_s : h.times();
      longer.times_ns.push_back(t);
    }
  }

  const int beam_;
  std::vector<PlainHypothesis> hypotheses_, next_;
};

}  // namespace ting::testing
