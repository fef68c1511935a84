// src/decoders/ctc_prefix_beam.h
// SPDX-License-Identifier: Apache-2.0
//
// CTC prefix beam search: the token sequences of highest probability, summed over their alignments.
// Inputs      CtcFrames with k >= token_beam, in any number of pieces: the pieces do not change the result
// State       the beam (prefixes with the log-probabilities of ending in blank and in a token, each with its best
//             path), a trie of the prefixes that ever survived a frame, and their times as lists that share their
//             beginnings. It grows by at most `beam` nodes of each kind a frame; Reset keeps the memory.
// Numerics    double; additions in the reference's order, so that near-ties fall the same way
// Ties        prefixes of equal score: the one that was touched first in the frame (tokens best first, within a
//             token the old beam best first): the order of a Python dict under a stable sort
// Blank skip  a frame whose blank is more probable than a threshold is taken as if blank were its only symbol: all
//             members stay, in order, and nothing is ranked. Not exact but bounded: only alignments with a token in a
//             skipped frame are given up, so that the probability of a prefix (exp of its score, where nothing was
//             pruned) falls by at most the sum of (1 - blank's probability) over the skipped frames
// Complexity  O(T beam token_beam); no hashing but for the survivors of a frame: the only prefixes of a frame that
//             can coincide are a member of the beam and the extension of its parent, which is also in the beam
// Reference   WeNet ctc_prefix_beam_search, Python. Kept with its quirks: the path of a repeated token keeps the
//             times of an extension seen before it in the same frame, even when the repetition is more probable.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "decoders/child_map.h"
#include "decoders/ctc_frames.h"
#include "ting/status.h"

namespace ting {

struct PrefixBeamOptions {
  int beam = 10;        // prefixes kept after a frame
  int token_beam = 10;  // symbols looked at in a frame: WeNet's is the same number as beam; at most V
  int32_t blank_id = 0;
  // Frames in which blank is among these symbols with a log-probability above this are skipped. +inf: none is, the
  // search is the reference's.
  float blank_skip_logp = std::numeric_limits<float>::infinity();

  bool operator==(const PrefixBeamOptions&) const = default;
};

struct PrefixHypothesis {
  std::vector<int32_t> tokens;
  std::vector<int32_t> times;  // [U] frames of the best path's tokens
  double score = 0;            // log of the sum over alignments = logadd(blank_score, token_score)
  double viterbi_score = 0;    // log-probability of the best alignment found
  double blank_score = 0;      // the part of score whose alignments end in blank (WeNet: s)
  double token_score = 0;      // the part that ends in the last token (WeNet: ns)
};

class CtcPrefixBeam {
 public:
  explicit CtcPrefixBeam(const PrefixBeamOptions& options);

  // Back to before the first frame.
  void Reset();
  // Refuses frames with k < token_beam, negative ids, and log-probabilities that are NaN or +inf; the state is then as
  // after the frames before the refused one.
  Status AcceptFrames(const CtcFrames& frames);
  // The best `n` prefixes (all of the beam when n < 0) after the frames so far, best first; may be called between
  // pieces. Prefixes of probability zero are left out. No frames: the empty prefix with score 0.
  std::vector<PrefixHypothesis> NBest(int n = -1) const;
  int32_t num_frames() const { return num_frames_; }

 private:
  struct Prefix {    // one prefix of the trie
    int32_t parent;  // -1: the empty prefix
    int32_t token;
    int32_t beam_index;  // in beam_, valid when beam_[beam_index] is this prefix
  };
  struct Time {  // one element of a list of times, last first
    int32_t previous;
    int32_t frame;
  };
  // A list of times that is `base`, or `base` with the current frame appended (made into a Time on survival).
  struct TimesEdit {
    int32_t base = -1;
    bool append = false;
  };
  struct Entry {  // a member of the beam
    int32_t prefix;
    double blank, token;                  // s, ns
    double viterbi_blank, viterbi_token;  // v_s, v_ns
    int32_t times_blank, times_token;     // lists, -1: empty
    double score;

    double viterbi() const { return viterbi_blank > viterbi_token ? viterbi_blank : viterbi_token; }
    int32_t times() const { return viterbi_blank > viterbi_token ? times_blank : times_token; }
  };
  struct Candidate {  // a prefix of the next beam: `parent` itself (extension < 0) or `parent` with a token appended
    int32_t parent;   // prefix id
    int32_t extension;
    double blank, token, viterbi_blank, viterbi_token;
    double token_logp;  // WeNet: cur_token_prob, of this frame only
    TimesEdit times_blank, times_token;
  };
  struct Ranked {
    double score;
    int32_t candidate;
  };

  void AcceptFrame(const float* logp, const int32_t* ids);
  // The blank's log-probability in a frame that is to be skipped.
  std::optional<float> SkippedBlank(const float* logp, const int32_t* ids) const;
  void AcceptBlankAlone(double logp);
  void AddToken(int32_t token, double logp);
  void AddBlank(double logp);
  void Repeat(int32_t index, double logp);
  void Extend(int32_t index, int32_t token, double logp, double from_sum, double from_viterbi, int32_t times);
  Candidate& Stay(int32_t index);
  double TotalScore(const Candidate& candidate) const;
  void Prune();
  int32_t Intern(int32_t parent, int32_t token);
  int32_t Materialize(const TimesEdit& edit);

  PrefixBeamOptions options_;
  int32_t num_frames_ = 0;
  std::vector<Prefix> prefixes_;
  ChildMap children_;
  std::vector<Time> times_;
  std::vector<Entry> beam_, next_beam_;
  std::vector<Candidate> candidates_;  // in the order in which they were first touched
  std::vector<int32_t> stay_;          // [beam] the candidate that is the member itself, -1: none yet
  std::vector<int32_t> child_;         // [beam] the member that is this member plus the current token, -1: none
  std::vector<Ranked> ranked_;
};

}  // namespace ting
