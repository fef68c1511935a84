// src/kernels/cpu/isa/attention.inc.h
// SPDX-License-Identifier: Apache-2.0
//
// Attention of a few query rows of one head: two calls of the matrix product around a row-wise softmax. Keys and
// values are packed once a (sequence, head); the positions' share of the score is already in the keys, its other
// share is the bias of the first product. Scores stay in L1/L2 (14 rows x T).
#pragma once

#include "kernels/cpu/isa/rows.inc.h"

namespace ting::cpu::TING_ISA {

#if defined(__AVX512F__)
// 16 rows of 16 values to 16 columns: pairs, then quads within 128-bit lanes, then the lanes themselves.
TING_INLINE void Transpose16(VecF* r) {
  VecF t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    u[i] = (VecF)_mm512_unpacklo_pd((__m512d)t[i], (__m512d)t[i + 2]);
    u[i + 1] = (VecF)_mm512_unpackhi_pd((__m512d)t[i], (__m512d)t[i + 2]);
    u[i + 2] = (VecF)_mm512_unpacklo_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
    u[i + 3] = (VecF)_mm512_unpackhi_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const VecF x0 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88), x1 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xdd);
    const VecF y0 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88),
               y1 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xdd);
    r[c] = _mm512_shuffle_f32x4(x0, y0, 0x88);
    r[c + 4] = _mm512_shuffle_f32x4(x1, y1, 0x88);
    r[c + 8] = _mm512_shuffle_f32x4(x0, y0, 0xdd);
    r[c + 12] = _mm512_shuffle_f32x4(x1, y1, 0xdd);
  }
}
#endif

// Keys [t0, t0 + 16) from value d on into [Dh][16], one at a time: the ragged edges.
static void PackKeysFrom(const PackHeadArgs& a, int64_t t0, int64_t d0, float* panel) {
  const int64_t n = a.T - t0 < kPanel ? a.T - t0 : kPanel;
  for (int64_t j = 0; j < n; ++j) {
    const float* k = a.k + (t0 + j) * a.k_stride;
    const float* p = a.positions == nullptr ? nullptr : a.positions + (t0 + j) * a.position_stride;
    for (int64_t d = d0; d < a.Dh; ++d) panel[d * kPanel + j] = p == nullptr ? k[d] : k[d] + p[d];
  }
  for (int64_t d = d0; n < kPanel && d < a.Dh; ++d) {
    memset(panel + d * kPanel + n, 0, static_cast<size_t>(kPanel - n) * sizeof(float));
  }
}

// Transposes 16 keys x Dh into [Dh][16].
static void PackKeyPanel(const PackHeadArgs& a, int64_t t0, float* panel) {
  int64_t d = 0;
#if defined(__AVX512F__)
  for (; t0 + kPanel <= a.T && d + kPanel <= a.Dh; d += kPanel) {
    VecF r[16];
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
      r[j] = Load(a.k + (t0 + j) * a.k_stride + d);
      if (a.positions != nullptr) r[j] += Load(a.positions + (t0 + j) * a.position_stride + d);
    }
    Transpose16(r);
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) Store(panel + (d + j) * kPanel, r[j]);
  }
#endif
  if (d < a.Dh) PackKeysFrom(a, t0, d, panel);
}

static void PackHead(const PackHeadArgs& a) {
  for (int64_t t = 0; t < a.T; t += kPanel) PackKeyPanel(a, t, a.key_panels + t * a.Dh);
  for (int64_t d = 0; d < a.Dh; d += kPanel) {
    float* out = a.value_panels + d * a.T;
    for (int64_t t = 0; t < a.T; ++t, out += kPanel) {
      for (int64_t i = 0; i < kPanel; i += kLanes) {
        const int64_t left = a.Dh - d - i;
        Store(out + i, left > 0 ? LoadPartial(a.v + t * a.v_stride + d + i, left) : VecF{});
      }
    }
  }
}

// Scores [begin, end) to weights in place, 0 outside [first, last); returns 1 / sum, or 0 for an empty row.
TING_INLINE float SoftmaxRow(float* scores, int64_t begin, int64_t end, int64_t first, int64_t last) {
  if (first >= last) {
    memset(scores + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
    return 0;
  }
  const VecF max = Set1(RowMax(scores + first, last - first, -__builtin_inff()));
  VecF sum{};
  int64_t i = first;
  for (; i + kLanes <= last; i += kLanes) {
    const VecF p = ExpNonPositive(Load(scores + i) - max);
    Store(scores + i, p);
    sum += p;
  }
  if (i < last) {
    const VecF p = ExpNonPositive(LoadPartial(scores + i, last - i, -__builtin_inff()) - max);
    StorePartial(scores + i, p, last - i);
    sum += p;
  }
  for (i = begin; i < first; ++i) scores[i] = 0;
  for (i = last; i < end; ++i) scores[i] = 0;
  return 1.0F / ReduceAdd(sum);
}

static void PrepareQueries(const AttentionArgs& a, float* q, int64_t stride) {
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t d = 0; d < a.Dh; d += kLanes) {
      const int64_t n = a.Dh - d;
      VecF v = LoadPartial(a.q + r * a.q_stride + d, n);
      if (a.u != nullptr) v += LoadPartial(a.u + d, n);
      StorePartial(q + r * stride + d, v * a.scale, n);
    }
  }
}

static void Attention(const AttentionArgs& a) {
  int64_t begin = a.T, end = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    if (a.first[r] >= a.last[r]) continue;
    begin = a.first[r] < begin ? a.first[r] : begin;
    end = a.last[r] > end ? a.last[r] : end;
  }
  begin = begin < end ? begin / kPanel * kPanel : 0;
  const int64_t score_stride = (a.T + kPanel - 1) / kPanel * kPanel + kPanel;
  const int64_t head_stride = (a.Dh + kPanel - 1) / kPanel * kPanel + kPanel;
  float* const scores = a.scratch;
  float* const q = scores + kAttentionRows * score_stride;
  float* const context = q + kAttentionRows * head_stride;
  PrepareQueries(a, q, head_stride);

  GemmArgs qk;
  qk.a = q, qk.a_row_bytes = head_stride * 4, qk.rows = a.rows, qk.segment_k = a.Dh;
  qk.b = a.key_panels, qk.b_panel_bytes = a.Dh * kPanel * 4;
  qk.first_panel = begin / kPanel, qk.last_panel = (end + kPanel - 1) / kPanel;
  qk.bias = a.key_bias, qk.N = (end + kPanel - 1) / kPanel * kPanel;
  qk.c = scores, qk.c_row_bytes = score_stride * 4;
  Gemm(qk);

  float inverse[kAttentionRows];
  for (int64_t r = 0; r < a.rows; ++r) {
    inverse[r] = SoftmaxRow(scores + r * score_stride, begin, end, a.first[r], a.last[r]);
  }

  alignas(64) static const float kNoBias[1024] = {};
  GemmArgs pv;
  pv.a = scores + begin, pv.a_row_bytes = score_stride * 4, pv.rows = a.rows,
  pv.segment_k = end > begin ? end - begin : 0;
  pv.b = a.value_panels + begin * kPanel, pv.b_panel_bytes = a.T * kPanel * 4;
  pv.first_panel = 0, pv.last_panel = (a.Dh + kPanel - 1) / kPanel;
  pv.bias = kNoBias, pv.N = a.Dh;
  pv.c = context, pv.c_row_bytes = head_stride * 4;
  Gemm(pv);

  for (int64_t r = 0; r < a.rows; ++r) {
    char* out = static_cast<char*>(a.out) + r * a.out_row_bytes;
    for (int64_t d = 0; d < a.Dh; d += kLanes) {
      const VecF v = LoadPartial(context + r * head_stride + d, a.Dh - d) * inverse[r];
      StoreAs(a.out_mode, out, a.out_column + d, v, a.Dh - d);
    }
  }
}

TING_INLINE float Dot(const float* a, const float* b, int64_t n) {
  VecF s{};
  for (int64_t i = 0; i < n; i += kLanes) s = Fma(LoadPartial(a + i, n - i), LoadPartial(b + i, n - i), s);
  return ReduceAdd(s);
}

static void TreeRow(const TreeArgs& a) {
  const int64_t Dh = a.D / a.heads;
  for (int h = 0; h < a.heads; ++h) {
    const float* q = a.q + h * Dh;
    for (int64_t i = 0; i < a.num_ancestors; ++i) {
      a.scores[i] = a.scale * Dot(q, a.pool + static_cast<int64_t>(a.ancestors[i]) * 2 * a.D + h * Dh, Dh);
    }
    const float inverse = SoftmaxRow(a.scores, 0, a.num_ancestors, 0, a.num_ancestors);
    for (int64_t d = 0; d < Dh; d += kLanes) {
      const int64_t n = Dh - d;
      VecF sum{};
      for (int64_t i = 0; i < a.num_ancestors; ++i) {
        const float* v = a.pool + static_cast<int64_t>(a.ancestors[i]) * 2 * a.D + a.D + h * Dh + d;
        sum = Fma(Set1(a.scores[i]), LoadPartial(v, n), sum);
      }
      StoreAs(a.out_mode, a.out, h * Dh + d, sum * inverse, n);
    }
  }
}

}  // namespace ting::cpu::TING_ISA
