// src/kernels/attention.h
// SPDX-License-Identifier: Apache-2.0
//
// The four attentions. In each, h = norm(x), heads of width Dh = D / heads, softmax in f32 over the visible keys
// (none visible: the row's context is 0), y = [residual] x + Wo context + bo.
// Common weights: optional norm.gamma, norm.beta; q, k, v as three linears (q.w, q.b, k.w, …) or packed as one
// (qkv.w [3D, D], qkv.b: rows q, then k, then v); o.w [D, D], o.b. Attributes: heads, residual (0 or 1), norm_eps.
// Biases may be absent.
//
// self_attention   Inputs x f32 [R, D]. Score q_i·k_j / sqrt(Dh) within the row's sequence.
// rel_attention    The same, with WeNet's relative positions (no rel_shift: position of the *key*, from the start
//                  of its sequence): score = ((q_i + u)·k_j + (q_i + v)·P_j) / sqrt(Dh), P = PE Wposᵀ.
//                  Weights pos.w [D, D] (no bias), pos_u, pos_v [D] (heads × Dh).
//                  With attribute folded = 1 (pass fold_rel_position) q already holds (q + u) / sqrt(Dh), and
//                  score = q_i·(k_j + P_j) + key_bias·P_j; weights pos.w and key_bias [D] = (v - u) / sqrt(Dh).
//                  self_attention with folded = 1: q already scaled by 1 / sqrt(Dh).
// Masks of both    StepOptions: chunk c > 0: row i sees keys [max((i/c - left)·c, 0), (i/c + 1)·c), left < 0: all.
//
// tree_attention   Causal self-attention of token rows that form trees (hypotheses that share their prefixes).
//                  Inputs x f32 [U, D]; slots s32 [U]; ancestor_offsets s32 [U + 1]; ancestors s32 [A];
//                  pool f32 [P, 2D] (state, written): row r stores its k and v at pool[slots[r]] (k first), then
//                  sees pool rows ancestors[ancestor_offsets[r] …), which name itself. All rows store before any reads.
//                  Score q·k / sqrt(Dh), or folded as above.
// cross_attention  Inputs x f32 [U, D]; memory f32 [T, M] (k and v of all layers, from linears run once an
//                  utterance: this layer's k at columns [key_column, key_column + D), v in the D after it);
//                  sequence s32 [U]: which sequence of memory's row set the row looks at (rows of one sequence are
//                  adjacent); not written by the node just before. Weights norm.*, q.*, o.*. Attributes key_column (0),
//                  folded as above.
// Aliasing   y must not be x.    Numerics  f32 scores and softmax; bf16 weights round the operands of products.
// Reference  WeNet MultiHeadedAttention, RelPositionMultiHeadedAttention
#pragma once

#include "kernels/params.h"

namespace ting {

struct AttentionParams {
  int64_t D = 0;
  int heads = 1;
  bool residual = false;
  bool folded = false;
  bool relative = false;  // rel_attention
  NormParams norm;
  bool packed = false;  // qkv rather than q, k, v
  LinearParams qkv, q, k, v, o;
  LinearParams pos;                   // rel_attention
  WeightView pos_u, pos_v, key_bias;  // rel_attention: the first two, or key_bias when folded
  int64_t key_column = 0;             // cross_attention

  int64_t head_width() const { return D / heads; }
};
Result<AttentionParams> ParseSelfAttention(const OpDesc& desc);  // self_attention and rel_attention
Result<AttentionParams> ParseTreeAttention(const OpDesc& desc);
Result<AttentionParams> ParseCrossAttention(const OpDesc& desc);

// Keys [first, last) that row i of a sequence of T rows may see under `options`.
struct KeyRange {
  int64_t first = 0, last = 0;
};
KeyRange VisibleKeys(const StepOptions& options, int64_t i, int64_t T);

}  // namespace ting
