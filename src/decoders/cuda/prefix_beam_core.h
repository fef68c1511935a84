// src/decoders/cuda/prefix_beam_core.h
// SPDX-License-Identifier: Apache-2.0
//
// CTC prefix beam search by one warp an utterance: the search of decoders/ctc_prefix_beam.h, same additions, same
// order of ties, for beams up to 32.
// A frame     lane i: what becomes of member i if it stays (a blank, its last token again, the extension of its parent
//             that meets it); then all lanes: extensions (member, token), of which the few that can survive are listed;
//             each of those counts those before it, which is its rank; then lane p builds member p of the next beam
// Meeting     within a frame the only prefixes that can coincide are a member and the extension of its parent, so
//             nothing is hashed: `merged` holds the tokens by which a member's extension is another member
// Touch order the CPU keeps candidates in the order in which it first touched them. A candidate is touched in slot
//             (rank of the token, member), and within it a repetition before an extension: TouchKey
// Pruning     scores fall along members and along tokens, so extension (i, r) is behind all (i', r') up to it, but for
//             i + 1 repetitions, and i + 1 pairs of them that lead to the same candidate. It cannot survive when
//             (i + 1) (r - 1) > beam (`cells` lists the others: 45 of 100). And `beam` candidates that are at least x
//             rule out everything below x: Floor.
// Identity    a prefix may leave the beam and come back while longer ones stayed; these must know it again, or the
//             parent's extension would not meet them. It is enough that all members that begin with a prefix name the
//             same node for it. So a new member N = G + v takes the node of N from a member that begins with N, and if
//             there is none, a new one: KnownNode. No children are searched, no memory is read but for members more
//             than two tokens longer than G.
// Nodes       of frame t and rank p is node 1 + t * beam + p of the trie and element t * beam + p of the times, so that
//             nothing is counted and a time is its index / beam
// Reference   CtcPrefixBeam; the emulation equals it bit for bit (tests/decoders/cuda)
#pragma once

#include <cstdint>
#include <limits>

#include "base/device_code.h"
#include "decoders/cuda/search_types.h"

namespace ting::cuda_ctc {

// Lists of times and nodes are indices, -1: none. Arrays are by rank in the beam.
struct PrefixMembers {
  double score[kMaxBeam], blank[kMaxBeam], token[kMaxBeam];
  double viterbi[kMaxBeam], viterbi_blank[kMaxBeam], viterbi_token[kMaxBeam];
  int32_t times[kMaxBeam], times_blank[kMaxBeam];  // of the best path; of the best that ends in blank
  int32_t times_before[kMaxBeam];                  // of the best that ends in a token, without that token
  int32_t node[kMaxBeam], last[kMaxBeam], length[kMaxBeam];
  int32_t parent[kMaxBeam], parent_last[kMaxBeam], grandparent[kMaxBeam];  // nodes and last token of the trie above
};

constexpr int kMaxCells = 192, kMaxCandidates = kMaxCells + kMaxBeam;

// What may become a member: its score as a number that orders alike, and the order in which it was touched. One load of
// 16 bytes.
struct alignas(16) PrefixCandidate {
  int64_t key;
  int32_t touch;
};

// The state of one utterance, in shared memory.
struct PrefixBeamMemory {
  PrefixMembers members[2];
  double logp[kMaxBeam];
  double stay_token[kMaxBeam], stay_viterbi_token[kMaxBeam];
  double chosen_scores[kMaxBeam];
  int32_t ids[kMaxBeam];
  int32_t stay_times[kMaxBeam];
  uint32_t merged[kMaxBeam];
  PrefixCandidate candidates[kMaxCandidates];
  int32_t chosen[kMaxBeam];
  int16_t cells[kMaxCells];
};

struct CtcSymbol {
  float logp;
  int32_t id;
};

template <class Lanes, class LogAdd>
class PrefixBeamCore {
 public:
  TING_DEVICE PrefixBeamCore(Lanes lanes, LogAdd log_add, const PrefixBeamSettings& settings, PrefixBeamMemory* memory,
                             TrieNode* nodes, int32_t* times)
      : lanes_(lanes), log_add_(log_add), settings_(settings), m_(*memory), nodes_(nodes), times_(times) {}

  // The empty prefix: as if a blank had come before, and (the reference's choice) both best paths at 0.
  TING_DEVICE void Start() {
    ListCells();
    m_.merged[lanes_.lane()] = 0;
    if (lanes_.lane() == 0) {
      PrefixMembers& first = m_.members[0];
      first.score[0] = first.blank[0] = first.viterbi[0] = first.viterbi_blank[0] = first.viterbi_token[0] = 0;
      first.token[0] = -kInf;
      first.times[0] = first.times_blank[0] = first.times_before[0] = -1;
      first.node[0] = first.length[0] = 0;
      first.last[0] = first.parent[0] = first.parent_last[0] = first.grandparent[0] = -1;
    }
    lanes_.Sync();
  }

  // Lane r brings the frame's symbol of rank r. False: refused, as the CPU search refuses it; the state stays.
  TING_DEVICE bool AcceptFrame(int32_t frame, CtcSymbol symbol) {
    const int lane = lanes_.lane();
    const bool used = lane < settings_.token_beam;
    if (lanes_.Ballot(used && !(symbol.logp < kInf && symbol.id >= 0)) != 0) return false;
    const uint32_t blanks = lanes_.Ballot(used && symbol.id == settings_.blank_id);
    blank_rank_ = blanks != 0 ? lanes_.FirstBit(blanks) : -1;
    m_.ids[lane] = symbol.id;
    m_.logp[lane] = symbol.logp;
    lanes_.Sync();
    if (blank_rank_ >= 0 && m_.logp[blank_rank_] > settings_.blank_skip_logp) {
      BlankAlone();
    } else {
      ListCandidates(Stay());
      Choose();
      if (lane < size_) BuildMember(frame, lane);
      now_ ^= 1;
      longest_ = lanes_.Max(lane < size_ ? members().length[lane] : 0);
    }
    lanes_.Sync();
    return true;
  }

  TING_DEVICE int size() const { return size_; }
  TING_DEVICE const PrefixMembers& members() const { return m_.members[now_]; }

 private:
  static constexpr double kInf = std::numeric_limits<double>::infinity();
  static constexpr int32_t kUntouched = 0x7fffffff;
  static constexpr int32_t kLowest = -kUntouched - 1;
  static constexpr int32_t kNoTimes = -2;  // stay_times: an empty list, while -1 is a list of this frame alone

  struct StayResult {
    double score = -kInf;
    int32_t touched = kUntouched;
  };
  struct Path {  // what an extension continues
    double score, viterbi;
    int32_t times;
  };

  TING_DEVICE static int32_t TouchKey(int rank, int member, int extension) {
    return (rank * kMaxBeam + member) * 2 + extension;
  }
  // A candidate in one word that orders by touch; the member it is, for one that stays.
  TING_DEVICE static int32_t PackStay(int32_t key, int member) { return key * 64 + 32 + member; }
  TING_DEVICE static int32_t PackExtension(int32_t key) { return key * 64; }
  // Orders as scores do: comparing integers takes a third of the time. ScoreOf is the way back.
  TING_DEVICE static int64_t Key(double score) {
    union {
      double value;
      int64_t bits;
    } key;
    key.value = score + 0.0;  // -0 is 0
    return Fold(key.bits);
  }
  TING_DEVICE static double ScoreOf(int64_t key) {
    union {
      int64_t bits;
      double value;
    } score;
    score.bits = Fold(key);
    return score.value;
  }
  TING_DEVICE static int64_t Fold(int64_t bits) { return bits ^ (bits >> 63 & 0x7fffffffffffffff); }
  // Never decreasing in `score`, so that what is lower here is lower.
  TING_DEVICE static int32_t Coarse(double score) { return static_cast<int32_t>(Key(score) >> 32); }

  TING_DEVICE void ListCells() {
    num_cells_ = 0;
    for (int rank = 0; rank < settings_.token_beam; ++rank) {
      const int limit = rank < 2 ? settings_.beam : settings_.beam / (rank - 1);
      const int count = limit < settings_.beam ? limit : settings_.beam;
      if (count == 0) break;
      if (lanes_.lane() < count) {
        m_.cells[num_cells_ + lanes_.lane()] = static_cast<int16_t>(rank * kMaxBeam + lanes_.lane());
      }
      num_cells_ += count;
    }
  }

  TING_DEVICE int RankOf(int32_t token) const {
    int found = -1;
    TING_UNROLL_BY(10)
    for (int rank = 0; rank < settings_.token_beam; ++rank) {
      if (m_.ids[rank] == token) found = rank;
    }
    return found;
  }
  TING_DEVICE int MemberOf(int32_t node) const {
    int found = -1;
    TING_UNROLL_BY(10)
    for (int i = 0; i < size_; ++i) {
      if (members().node[i] == node) found = i;
    }
    return found;
  }
  TING_DEVICE Path PathBefore(int member, int32_t token) const {
    const PrefixMembers& now = members();
    if (now.last[member] != token) return {now.score[member], now.viterbi[member], now.times[member]};
    return {now.blank[member], now.viterbi_blank[member], now.times_blank[member]};  // a second one needs a blank
  }

  TING_DEVICE StayResult Stay() {
    StayResult stay;
    const int i = lanes_.lane();
    if (i >= size_) return stay;
    const PrefixMembers& now = members();
    double blank = -kInf;
    if (blank_rank_ >= 0) {
      blank = now.score[i] + m_.logp[blank_rank_];
      stay.touched = TouchKey(blank_rank_, i, 0);
    }
    const int rank = RankOf(now.last[i]);
    const double token = rank >= 0 ? StayByToken(i, rank, &stay.touched) : -kInf;
    m_.stay_token[i] = token;
    if (rank < 0) m_.stay_viterbi_token[i] = -kInf, m_.stay_times[i] = kNoTimes;
    stay.score = log_add_(blank, token);
    return stay;
  }

  // Member i by its last token: repeated, and as the extension of its parent. On the CPU one follows the other, and
  // which is first decides the times.
  TING_DEVICE double StayByToken(int i, int rank, int32_t* touched) {
    const PrefixMembers& now = members();
    const double logp = m_.logp[rank];
    const int parent = MemberOf(now.parent[i]);
    const double repeated = now.viterbi_token[i] + logp;
    Path path{-kInf, -kInf, -1};
    *touched = Min(*touched, TouchKey(rank, i, 0));
    if (parent >= 0) {
      path = PathBefore(parent, now.last[i]);
      path.score += logp, path.viterbi += logp;
      *touched = Min(*touched, TouchKey(rank, parent, 1));
      lanes_.AtomicOr(&m_.merged[parent], 1U << rank);
    }
    const bool extension_first = parent >= 0 && parent < i;
    const bool extension_times = extension_first ? path.viterbi > -kInf : repeated < path.viterbi;
    const double viterbi = repeated < path.viterbi ? path.viterbi : repeated;
    m_.stay_viterbi_token[i] = viterbi;
    m_.stay_times[i] = !(viterbi > -kInf) ? kNoTimes : extension_times ? path.times : now.times_before[i];
    return log_add_(now.token[i] + logp, path.score);
  }

  // A value that `beam` different candidates reach: those that stay, or the extensions by the best symbol.
  TING_DEVICE int32_t Floor(const StayResult& stay) {
    if (size_ < settings_.beam) return kLowest;
    const int i = lanes_.lane();
    const int32_t own = stay.touched == kUntouched ? kLowest : Coarse(stay.score);
    const int32_t staying = lanes_.Min(i < size_ ? own : kUntouched);
    if (blank_rank_ == 0) return staying;
    const int32_t extended = lanes_.Min(i < size_ ? Coarse(PathBefore(i, m_.ids[0]).score + m_.logp[0]) : kUntouched);
    return extended > staying ? extended : staying;
  }

  TING_DEVICE void ListCandidates(const StayResult& stay) {
    const int lane = lanes_.lane();
    const int32_t floor = Floor(stay);
    lanes_.Sync();  // `merged` is whole
    num_candidates_ = 0;
    List(stay.touched != kUntouched, floor, stay.score, PackStay(stay.touched, lane));
    for (int base = 0; base < num_cells_; base += kMaxBeam) {
      const int cell = base + lane < num_cells_ ? m_.cells[base + lane] : kMaxBeam - 1;
      const int i = cell % kMaxBeam, rank = cell / kMaxBeam;
      const bool exists =
          base + lane < num_cells_ && i < size_ && rank != blank_rank_ && (m_.merged[i] >> rank & 1) == 0;
      const double score = exists ? PathBefore(i, m_.ids[rank]).score + m_.logp[rank] : -kInf;
      List(exists, floor, score, PackExtension(TouchKey(rank, i, 1)));
    }
    lanes_.Sync();
  }
  TING_DEVICE void List(bool exists, int32_t floor, double score, int32_t candidate) {
    const int64_t key = Key(score);
    const bool listed = exists && static_cast<int32_t>(key >> 32) >= floor;
    const uint32_t all = lanes_.Ballot(listed);
    if (listed) {
      const int at = num_candidates_ + lanes_.CountBits(all & ((1U << lanes_.lane()) - 1));
      m_.candidates[at] = {key, candidate};
    }
    num_candidates_ += lanes_.CountBits(all);
  }

  // The best `beam` of the candidates in order: a candidate's rank is how many are before it. There are seldom more
  // than lanes, and asking each other takes half the time of reading memory.
  TING_DEVICE void Choose() {
    m_.merged[lanes_.lane()] = 0;
    if (num_candidates_ <= kMaxBeam) {
      const PrefixCandidate own = m_.candidates[lanes_.lane()];
      int rank = 0;
      TING_UNROLL_BY(4)
      for (int i = 0; i < num_candidates_; ++i) {
        rank += IsBefore({lanes_.Broadcast(own.key, i), lanes_.Broadcast(own.touch, i)}, own);
      }
      if (lanes_.lane() < num_candidates_) SetChosen(rank, own);
    } else {
      for (int mine = lanes_.lane(); mine < num_candidates_; mine += kMaxBeam) {
        const PrefixCandidate own = m_.candidates[mine];
        int rank = 0;
        TING_UNROLL_BY(1)
        for (int i = 0; i < num_candidates_; ++i) rank += IsBefore(m_.candidates[i], own);
        SetChosen(rank, own);
      }
    }
    old_size_ = size_;
    size_ = Min(num_candidates_, settings_.beam);
    lanes_.Sync();
  }

  // 1 or 0, without a branch: those cost more here than what they save.
  TING_DEVICE static int IsBefore(const PrefixCandidate& a, const PrefixCandidate& b) {
    const int higher = a.key > b.key, equal = a.key == b.key, first = a.touch < b.touch;
    return higher | (equal & first);
  }
  TING_DEVICE void SetChosen(int rank, const PrefixCandidate& candidate) {
    if (rank < settings_.beam) m_.chosen_scores[rank] = ScoreOf(candidate.key), m_.chosen[rank] = candidate.touch;
  }

  TING_DEVICE void BuildMember(int32_t frame, int p) {
    const int32_t candidate = m_.chosen[p];
    m_.members[now_ ^ 1].score[p] = m_.chosen_scores[p];
    if ((candidate & 32) != 0) {
      BuildStay(frame, p, candidate % 32);
    } else {
      const int32_t slot = candidate / 128;  // the key without its last bit
      BuildExtension(frame, p, slot % kMaxBeam, slot / kMaxBeam);
    }
  }

  TING_DEVICE void BuildStay(int32_t frame, int p, int i) {
    const PrefixMembers& now = members();
    PrefixMembers& next = m_.members[now_ ^ 1];
    const bool blank = blank_rank_ >= 0;
    next.blank[p] = blank ? now.score[i] + m_.logp[blank_rank_] : -kInf;
    next.viterbi_blank[p] = blank ? now.viterbi[i] + m_.logp[blank_rank_] : -kInf;
    next.times_blank[p] = blank ? now.times[i] : -1;
    next.token[p] = m_.stay_token[i];
    next.viterbi_token[p] = m_.stay_viterbi_token[i];
    next.node[p] = now.node[i], next.last[p] = now.last[i], next.length[p] = now.length[i];
    next.parent[p] = now.parent[i], next.parent_last[p] = now.parent_last[i];
    next.grandparent[p] = now.grandparent[i];
    SetTimes(frame, p, m_.stay_times[i]);
  }

  TING_DEVICE void BuildExtension(int32_t frame, int p, int i, int rank) {
    const PrefixMembers& now = members();
    PrefixMembers& next = m_.members[now_ ^ 1];
    const int32_t token = m_.ids[rank];
    const Path path = PathBefore(i, token);
    next.blank[p] = next.viterbi_blank[p] = -kInf;
    next.times_blank[p] = -1;
    next.token[p] = m_.chosen_scores[p];
    next.viterbi_token[p] = path.viterbi + m_.logp[rank];
    next.last[p] = token, next.length[p] = now.length[i] + 1;
    next.parent[p] = now.node[i], next.parent_last[p] = now.last[i], next.grandparent[p] = now.parent[i];
    int32_t node = longest_ >= now.length[i] + 2 ? KnownNode(i, token) : -1;
    if (node < 0) {
      node = 1 + frame * settings_.beam + p;
      nodes_[node - 1] = {now.node[i], token};
    }
    next.node[p] = node;
    SetTimes(frame, p, next.viterbi_token[p] > -kInf ? path.times : kNoTimes);
  }

  // The node of member i and `token`, if a member begins with that: -1: none does.
  TING_DEVICE int32_t KnownNode(int i, int32_t token) const {
    const PrefixMembers& now = members();
    for (int c = 0; c < old_size_; ++c) {
      int extra = now.length[c] - now.length[i] - 2;  // tokens of c after the one in question, but for its last
      if (extra < 0) continue;
      TrieNode node{now.grandparent[c], now.parent_last[c]};
      int32_t id = now.parent[c];
      for (; extra > 0; --extra) {
        id = node.parent;
        node = nodes_[id - 1];
      }
      if (node.parent == now.node[i] && node.token == token) return id;
    }
    return -1;
  }

  // The list of the best path that ends in a token: `before` and this frame.
  TING_DEVICE void SetTimes(int32_t frame, int p, int32_t before) {
    PrefixMembers& next = m_.members[now_ ^ 1];
    const int32_t element = frame * settings_.beam + p;
    const bool any = before != kNoTimes;
    if (any) times_[element] = before;
    next.times_before[p] = any ? before : -1;
    const bool blank = next.viterbi_blank[p] > next.viterbi_token[p];
    next.viterbi[p] = blank ? next.viterbi_blank[p] : next.viterbi_token[p];
    next.times[p] = blank ? next.times_blank[p] : any ? element : -1;
  }

  // The frame as if blank were its only symbol: all members stay, in their order.
  TING_DEVICE void BlankAlone() {
    const int i = lanes_.lane();
    if (i >= size_) return;
    PrefixMembers& now = m_.members[now_];
    now.score[i] = now.blank[i] = now.score[i] + m_.logp[blank_rank_];
    now.viterbi[i] = now.viterbi_blank[i] = now.viterbi[i] + m_.logp[blank_rank_];
    now.token[i] = now.viterbi_token[i] = -kInf;
    now.times_blank[i] = now.times[i];
    now.times_before[i] = -1;
    if (now.viterbi[i] == -kInf) now.times[i] = -1;
  }

  TING_DEVICE static int32_t Min(int32_t a, int32_t b) { return a < b ? a : b; }

  Lanes lanes_;
  const LogAdd log_add_;
  const PrefixBeamSettings settings_;
  PrefixBeamMemory& m_;
  TrieNode* const nodes_;
  int32_t* const times_;
  int now_ = 0;  // which of the two beams is the present one
  int size_ = 1, old_size_ = 1;
  int longest_ = 0;  // length of the longest member
  int blank_rank_ = -1;
  int num_cells_ = 0;
  int num_candidates_ = 0;
};

}  // namespace ting::cuda_ctc
