// src/decoders/cuda/search_types.h
// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA searches read and write, shared by the kernels, their host side and the emulation of the tests.
#pragma once

#include <cstdint>

namespace ting::cuda_ctc {

constexpr int kMaxBeam = 32;  // of prefixes and of tokens: a lane each

// The packed rows of a step.
struct SearchRows {
  const float* logp = nullptr;           // [rows, k]
  const int32_t* ids = nullptr;          // [rows, k]
  const int32_t* row_offsets = nullptr;  // [B + 1]
  int32_t k = 0;
  int32_t max_rows = 0;  // what the buffers below are sized for
};

struct PrefixBeamSettings {
  int32_t beam = 0;
  int32_t token_beam = 0;
  int32_t blank_id = 0;
  float blank_skip_logp = 0;  // +inf: no frame is skipped
};

struct SequenceHeader {
  int32_t num_hypotheses;  // -1: the sequence's rows lie outside max_rows
  int32_t refused_frame;   // -1: none
  int32_t first_row;
  int32_t num_frames;
};
struct HypothesisHeader {
  double score, viterbi_score, blank_score, token_score;  // greedy: score alone
  int32_t num_tokens, num_times;
};

// Results in pinned host memory, written by the kernel itself: only what is used travels. Hypothesis h of sequence b
// has its tokens from (first_row * beam + h * num_frames) on: as many as it has frames.
struct SearchOutput {
  SequenceHeader* sequences = nullptr;     // [B]
  HypothesisHeader* hypotheses = nullptr;  // [B, beam]
  int32_t* tokens = nullptr;               // [max_rows * beam]
  int32_t* times = nullptr;                // [max_rows * beam]
  float* peaks = nullptr;                  // [max_rows], greedy: log-probability at the time
};

struct TrieNode {
  int32_t parent, token;
};

// Device memory of a step, [max_rows * beam] each; a sequence uses what its rows stand for.
struct SearchScratch {
  TrieNode* nodes = nullptr;
  int32_t* times = nullptr;          // element t * beam + i of a sequence: frame t, and what came before it
  int32_t* staged_tokens = nullptr;  // results, last first
  int32_t* staged_times = nullptr;
};

}  // namespace ting::cuda_ctc
