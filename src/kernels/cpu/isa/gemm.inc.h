// src/kernels/cpu/isa/gemm.inc.h
// SPDX-License-Identifier: Apache-2.0
//
// The matrix product (GemmArgs). A tile is kMaxRows rows by kTilePanels panels of 16 columns, all accumulators in
// registers; A is read row-major, one broadcast a row and k, so nothing is repacked. 14 x 32 with AVX-512 (28
// accumulators), 6 x 16 with AVX2 (12), 3 x 16 otherwise. Row blocks get nearly equal sizes: 52 rows are 4 x 13
// and not 3 x 14 + 10. A pair of panels is read once for all row blocks of the call. bf16 and 8 bits on a machine with
// AMX go another way: amx.inc.h, amx_s8x2.inc.h.
//
// The finished tile goes through a buffer that stays in L1, where bias, activation and residual are applied: this
// costs under one percent and keeps the register kernels to one loop.
#pragma once

#include "kernels/cpu/isa/amx_s8x2.inc.h"

namespace ting::cpu::TING_ISA {

#if defined(__AVX512F__)
inline constexpr int kMaxRows = 14, kTilePanels = 2;
#elif defined(__AVX2__)
inline constexpr int kMaxRows = 6, kTilePanels = 1;
#elif defined(__aarch64__)
inline constexpr int kMaxRows = 6, kTilePanels = 1;
#else
inline constexpr int kMaxRows = 3, kTilePanels = 1;
#endif
inline constexpr int kPanelVectors = kPanel / kLanes;

struct TileArgs {
  const char* a;
  int64_t row_bytes;
  const int64_t* segment_bytes;
  int64_t num_segments, segment_k;
  const char* b[2];
  const float *bias[2], *factors[2];
  float* tile;  // rows of kTileStride
  // The next pair of panels, fetched into the second-level cache while this one is used: a model is larger than the
  // caches, so that each product's first pass over a panel would wait for memory. Bytes a step of k may be less than
  // a line: the row blocks share the work.
  const char* ahead[2];
  int64_t ahead_bytes;
};

// Addresses of rows 0, 3, 6, … are kept; the two between are one and two strides on, which x86 addressing forms
// without another register.
template <int kRows>
TING_INLINE void FindRows(const char* a, int64_t stride, const char** base) {
#pragma GCC unroll 16
  for (int i = 0; i < (kRows + 2) / 3; ++i) base[i] = a + 3 * i * stride;
}
// A step of TileArgs::ahead.
template <int kRows, int kPanels>
TING_INLINE void LookAhead(const char*& ahead0, const char*& ahead1, int64_t bytes) {
  if constexpr (kPanels > 1 && kRows > 3) {
    __builtin_prefetch(ahead0, 0, 2);
    __builtin_prefetch(ahead1, 0, 2);
    ahead0 += bytes, ahead1 += bytes;
  }
}

template <int kRows, int kPanels>
[[gnu::noinline]] static void TileF32(const TileArgs& args) {
  constexpr int kVectors = kPanels * kPanelVectors;
  VecF acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      acc[r][j] = Load(args.bias[j / kPanelVectors] + (j % kPanelVectors) * kLanes);
    }
  }
  const float* b0 = reinterpret_cast<const float*>(args.b[0]);
  const float* b1 = reinterpret_cast<const float*>(args.b[1]);
  const char *ahead0 = args.ahead[0], *ahead1 = args.ahead[1];
  const int64_t ahead_bytes = args.ahead_bytes;
  const int64_t stride = args.row_bytes;
  for (int64_t s = 0; s < args.num_segments; ++s) {
    const char* base[(kRows + 2) / 3];
    FindRows<kRows>(args.a + args.segment_bytes[s], stride, base);
#pragma GCC unroll 4
    for (int64_t k = 0; k < args.segment_k; ++k) {
      VecF b[kVectors];
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) {
        b[j] = Load((j < kPanelVectors ? b0 : b1) + (j % kPanelVectors) * kLanes);
      }
      b0 += kPanel;
      if constexpr (kPanels > 1) b1 += kPanel;
      LookAhead<kRows, kPanels>(ahead0, ahead1, ahead_bytes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const VecF av = Set1(*reinterpret_cast<const float*>(base[r / 3] + (r % 3) * stride + 4 * k));
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; ++j) acc[r][j] = Fma(av, b[j], acc[r][j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) Store(args.tile + r * kTileStride + j * kLanes, acc[r][j]);
  }
}

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#define TING_VECTOR_BF16
// The same on pairs of bf16: one 32-bit broadcast of A feeds 16 x 2 products.
template <int kRows, int kPanels>
[[gnu::noinline]] static void TileBf16(const TileArgs& args) {
  __m512 acc[kRows][kPanels];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanels; ++j) acc[r][j] = Load(args.bias[j]);
  }
  const char* b0 = args.b[0];
  const char* b1 = args.b[1];
  const char *ahead0 = args.ahead[0], *ahead1 = args.ahead[1];
  const int64_t ahead_bytes = args.ahead_bytes;
  const int64_t stride = args.row_bytes;
  const int64_t pairs = (args.segment_k + 1) / 2;
  for (int64_t s = 0; s < args.num_segments; ++s) {
    const char* base[(kRows + 2) / 3];
    FindRows<kRows>(args.a + args.segment_bytes[s], stride, base);
#pragma GCC unroll 4
    for (int64_t k = 0; k < pairs; ++k) {
      __m512bh b[kPanels];
#pragma GCC unroll 2
      for (int j = 0; j < kPanels; ++j) b[j] = (__m512bh)_mm512_loadu_si512(j == 0 ? b0 : b1);
      b0 += 64;
      if constexpr (kPanels > 1) b1 += 64;
      LookAhead<kRows, kPanels>(ahead0, ahead1, ahead_bytes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        int32_t pair;
        memcpy(&pair, base[r / 3] + (r % 3) * stride + 4 * k, 4);
        const __m512bh av = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
        for (int j = 0; j < kPanels; ++j) acc[r][j] = _mm512_dpbf16_ps(acc[r][j], av, b[j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanels; ++j) Store(args.tile + r * kTileStride + j * kPanel, acc[r][j]);
  }
}
#endif

#if defined(TING_S16)
// The 32-bit sums of a run, times its rows' factors, to the f32 sums in the tile, which is in the first-level cache. In
// order, by asm: all conversions at once would need more registers than there are.
template <int kRows, int kPanels>
TING_INLINE void AddRun(const __m512i (&acc)[kRows][kPanels], const char* const* base, int64_t stride,
                        int64_t factor_at, float* tile) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    float factor;
    memcpy(&factor, base[r / 3] + (r % 3) * stride + factor_at, 4);
#pragma GCC unroll 2
    for (int j = 0; j < kPanels; ++j) {
      float* const sum = tile + r * kTileStride + j * kPanel;
      VecF of_run;
      asm volatile("vcvtdq2ps %1, %0" : "=v"(of_run) : "v"(acc[r][j]));
      Store(sum, Fma(of_run, Set1(factor), Load(sum)));
    }
  }
}

// Pairs of int16, a run of 32 k in 32-bit sums. By asm: with intrinsics GCC 12 peels the loop's first round and spills
// the sums (180 GFLOP/s instead of 280).
template <int kRows, int kPanels>
[[gnu::noinline]] static void TileS16(const TileArgs& args) {
  float* const tile = args.tile;
#pragma GCC unroll 32
  for (int i = 0; i < kRows * kPanels; ++i) Store(tile + i / kPanels * kTileStride + i % kPanels * kPanel, VecF{});
  const char *b0 = args.b[0], *b1 = args.b[1], *ahead0 = args.ahead[0], *ahead1 = args.ahead[1];
  const int64_t ahead_bytes = args.ahead_bytes, stride = args.row_bytes;
  const int64_t piece_bytes = args.segment_k * 2;
  for (int64_t s = 0; s < args.num_segments; ++s) {
    const char* base[(kRows + 2) / 3];
    FindRows<kRows>(args.a + args.segment_bytes[s], stride, base);
    for (int64_t k = 0, factor_at = piece_bytes; k < piece_bytes; factor_at += 4) {
      __m512i acc[kRows][kPanels];
#pragma GCC unroll 32
      for (int i = 0; i < kRows * kPanels; ++i) asm("vpxord %0, %0, %0" : "=v"(acc[i / kPanels][i % kPanels]));
      int64_t end = k + 2 * kRunValues;
      asm("" : "+r"(end));  // not a constant number of rounds, which it would unroll
#pragma GCC unroll 1
      for (; k != end; k += 4) {
        __m512i b[kPanels];
#pragma GCC unroll 2
        for (int j = 0; j < kPanels; ++j) b[j] = _mm512_loadu_si512(j == 0 ? b0 : b1);
        b0 += kLineBytes;
        if constexpr (kPanels > 1) b1 += kLineBytes;
        LookAhead<kRows, kPanels>(ahead0, ahead1, ahead_bytes);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          int32_t pair;
          memcpy(&pair, base[r / 3] + (r % 3) * stride + k, 4);
          const __m512i av = _mm512_set1_epi32(pair);
#pragma GCC unroll 2
          for (int j = 0; j < kPanels; ++j) asm("vpdpwssd %2, %1, %0" : "+v"(acc[r][j]) : "v"(av), "v"(b[j]));
        }
      }
      AddRun<kRows, kPanels>(acc, base, stride, factor_at, tile);
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < kRows * kPanels; ++i) {
    float* const sum = tile + i / kPanels * kTileStride + i % kPanels * kPanel;
    Store(sum, Fma(Load(sum), Load(args.factors[i % kPanels]), Load(args.bias[i % kPanels])));
  }
}
#endif

using TileFunction = void (*)(const TileArgs&);
#define TING_TILE_ROW(F, P)                                                                       \
  {                                                                                               \
    F<1, P>, F < kMaxRows<2 ? 1 : 2, P>, F < kMaxRows<3 ? 1 : 3, P>, F < kMaxRows<4 ? 1 : 4, P>,  \
        F < kMaxRows<5 ? 1 : 5, P>, F < kMaxRows<6 ? 1 : 6, P>, F < kMaxRows<7 ? 1 : 7, P>,       \
        F < kMaxRows<8 ? 1 : 8, P>, F < kMaxRows<9 ? 1 : 9, P>, F < kMaxRows<10 ? 1 : 10, P>,     \
        F < kMaxRows<11 ? 1 : 11, P>, F < kMaxRows<12 ? 1 : 12, P>, F < kMaxRows<13 ? 1 : 13, P>, \
        F < kMaxRows<14 ? 1 : 14, P>                                                              \
  }
static const TileFunction kTileF32[2][14] = {TING_TILE_ROW(TileF32, 1), TING_TILE_ROW(TileF32, kTilePanels)};
#if defined(TING_VECTOR_BF16)
static const TileFunction kTileBf16[2][14] = {TING_TILE_ROW(TileBf16, 1), TING_TILE_ROW(TileBf16, kTilePanels)};
#endif
#if defined(TING_S16)
static const TileFunction kTileS16[2][14] = {TING_TILE_ROW(TileS16, 1), TING_TILE_ROW(TileS16, kTilePanels)};
#endif

// All rows against one pair of panels (second null: one panel).
static void PanelPair(const GemmArgs& g, TileArgs& t, int panels, int64_t next, int64_t n, int64_t columns,
                      const TileFunction* tiles, FinishFunction finish) {
  const char* const b0 = t.b[0];
  const float* const bias0 = t.bias[0];
  const int64_t blocks = (g.rows + kMaxRows - 1) / kMaxRows;
  float* const tile = t.tile;
  const int64_t calls = blocks * g.groups;
  const char* const ahead[2] = {t.b[0] + next * g.b_panel_bytes, t.b[1] + next * g.b_panel_bytes};
  t.ahead_bytes = (kLineBytes + calls - 1) / calls;  // a panel's row of 16 columns is one line a step of k
  int64_t call = 0;
  for (int64_t group = 0; group < g.groups; ++group) {
    int64_t row = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t rows = g.rows / blocks + (block < g.rows % blocks ? 1 : 0);
      t.a = static_cast<const char*>(g.a) + group * g.a_group_bytes + row * g.a_row_bytes;
      for (int i = 0; i < 2; ++i) t.ahead[i] = ahead[i] + call * (g.b_panel_bytes / calls);
      ++call;
      tiles[rows - 1](t);
      if (panels > kTilePanels) {  // narrow registers: the second panel is a pass of its own
        t.b[0] = t.b[1], t.bias[0] = t.bias[1], t.tile = tile + kPanel;
        tiles[rows - 1](t);
        t.b[0] = b0, t.bias[0] = bias0, t.tile = tile;
      }
      finish(g, tile, rows, row, group, n, columns);
      row += rows;
    }
  }
}

static void Gemm(const GemmArgs& g) {
  if (g.rows <= 0) return;
#if defined(__AMX_BF16__)
  if (g.mode == GemmMode::kBF16) return AmxGemm<false>(g);
  if (g.mode == GemmMode::kBF16x2) return AmxGemm<true>(g);
#endif
#if defined(TING_S8X2)
  if (g.mode == GemmMode::kS8x2) return AmxGemmS8x2(g);
#endif
  alignas(64) float tile[kMaxRows * kTileStride];
  static const int64_t kOneSegment = 0;
  const FinishFunction finish = kFinish[static_cast<int>(g.epilogue)][static_cast<int>(g.c_mode)];
  const TileFunction(*functions)[14] = kTileF32;
#if defined(TING_VECTOR_BF16)
  if (g.mode == GemmMode::kBF16) functions = kTileBf16;
#endif
#if defined(TING_S16)
  if (g.mode == GemmMode::kS16) functions = kTileS16;
#endif
  TileArgs t{};
  t.row_bytes = g.a_row_bytes;
  t.segment_bytes = g.segment_bytes != nullptr ? g.segment_bytes : &kOneSegment;
  t.num_segments = g.num_segments;
  t.segment_k = g.segment_k;
  t.tile = tile;
  const bool glu = g.epilogue == Epilogue::kGlu;
  const int64_t step = glu ? 1 : 2;
  for (int64_t panel = g.first_panel; panel < g.last_panel; panel += step) {
    const int64_t second = glu ? panel + g.glu_panels : panel + 1;
    const int panels = glu || second < g.last_panel ? 2 : 1;
    t.b[0] = static_cast<const char*>(g.b) + panel * g.b_panel_bytes;
    t.b[1] = static_cast<const char*>(g.b) + second * g.b_panel_bytes;
    t.bias[0] = g.bias + panel * kPanel;
    t.bias[1] = g.bias + second * kPanel;
    if (g.factors != nullptr) t.factors[0] = g.factors + panel * kPanel, t.factors[1] = g.factors + second * kPanel;
    const int64_t n = panel * kPanel;
    const int64_t widest = step == 2 ? panels * kPanel : kPanel;
    const int64_t columns = g.N - n < widest ? g.N - n : widest;
    const int64_t next = panel + step < g.last_panel ? step : 0;  // the last pair looks at itself, which costs nothing
    PanelPair(g, t, panels, next, n, columns, functions[panels > 1 ? 1 : 0], finish);
  }
}

}  // namespace ting::cpu::TING_ISA
