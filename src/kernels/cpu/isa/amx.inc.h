// src/kernels/cpu/isa/amx.inc.h
// SPDX-License-Identifier: Apache-2.0
//
// bf16 products by AMX (GemmArgs with mode kBF16 or kBF16x2): a tile register holds 16 rows of 64 bytes, and 16 pairs
// of k of one panel16 panel are such a tile as they lie. Two row tiles meet two panels in four accumulators, so that
// each loaded tile is used twice; with two terms three times, so that three times the products take 2 to 2.5 times
// as long.
//
// Rows are cut into tiles of one height, so that the call needs one tile configuration; the last tile of a group
// may start inside the one before, and the rows that it repeats are not stored. A sum runs over k in steps of 32:
// within a step the even and the odd products are summed apart. That order differs from the other instruction
// sets', so small products too go this way: a row's bits must not depend on the rows beside it.
#pragma once

#include "kernels/cpu/isa/finish.inc.h"

#if defined(__AMX_BF16__)
namespace ting::cpu::TING_ISA {

inline constexpr int kTileRows = 16, kStepK = 32, kTileBytes = 1024, kRowTiles = 2;
inline constexpr int kBufferFloats = kRowTiles * kTileRows * kTileStride;

// What ldtilecfg reads: palette 1, then bytes a row and rows of the eight registers.
struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Registers 0-3: sums of row tile i and panel j in 2i + j; 4 and 5: A; 6 and 7: B. Intrinsics of GCC 12 do not say
// that they read memory, hence asm.
template <int kRegister>
TING_INLINE void TileLoad(const void* p, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(kRegister) : "memory");
}
template <int kRegister>
TING_INLINE void TileStore(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(kRegister) : "memory");
}
template <int kSum, int kA, int kB>
TING_INLINE void TileProduct() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

// One block: up to two row tiles against up to two panels.
struct BlockArgs {
  const char* a[kRowTiles];
  int64_t row_bytes, rows;  // of a row tile
  const int64_t* segment_bytes;
  int64_t num_segments, segment_k;
  const char* b[2];
  const float* bias[2];
  float* tile;           // kRowTiles x kTileRows rows of kTileStride
  int64_t drain_rows;    // of the block before, a step
  const char* ahead[2];  // the next pair of panels; see gemm.inc.h
  int64_t ahead_lines;   // a step of k
};

template <int kTiles, int kPanels>
TING_INLINE void Step(const char* a0, const char* a1, int64_t a_stride, const char* b0, const char* b1) {
  TileLoad<6>(b0, kLineBytes);
  TileLoad<4>(a0, a_stride);
  TileProduct<0, 4, 6>();
  if constexpr (kPanels > 1) {
    TileLoad<7>(b1, kLineBytes);
    TileProduct<1, 4, 7>();
  }
  if constexpr (kTiles > 1) {
    TileLoad<5>(a1, a_stride);
    TileProduct<2, 5, 6>();
    if constexpr (kPanels > 1) TileProduct<3, 5, 7>();
  }
}

// The same in two terms: four tiles each of A and B for twelve products. The small ones are added first.
template <int kTiles, int kPanels>
TING_INLINE void StepOfTerms(const char* a0, const char* a1, int64_t a_stride, const char* b0, const char* b1) {
  TileLoad<6>(b0, kLineBytes);
  TileLoad<4>(a0 + kTermBytes, a_stride);
  TileProduct<0, 4, 6>();
  if constexpr (kPanels > 1) {
    TileLoad<7>(b1, kLineBytes);
    TileProduct<1, 4, 7>();
  }
  if constexpr (kTiles > 1) {
    TileLoad<5>(a1 + kTermBytes, a_stride);
    TileProduct<2, 5, 6>();
    if constexpr (kPanels > 1) TileProduct<3, 5, 7>();
  }
  TileLoad<4>(a0, a_stride);
  TileProduct<0, 4, 6>();
  if constexpr (kPanels > 1) TileProduct<1, 4, 7>();
  if constexpr (kTiles > 1) {
    TileLoad<5>(a1, a_stride);
    TileProduct<2, 5, 6>();
    if constexpr (kPanels > 1) TileProduct<3, 5, 7>();
  }
  TileLoad<6>(b0 + kTileBytes, kLineBytes);
  TileProduct<0, 4, 6>();
  if constexpr (kTiles > 1) TileProduct<2, 5, 6>();
  if constexpr (kPanels > 1) {
    TileLoad<7>(b1 + kTileBytes, kLineBytes);
    TileProduct<1, 4, 7>();
    if constexpr (kTiles > 1) TileProduct<3, 5, 7>();
  }
}

// The last k of a segment, fewer than a step: copies with zeros behind, for A ends there and B's panel may.
template <int kTiles, int kPanels>
static void TailStep(const BlockArgs& t, const char* const* a, const char* const* b, int64_t k) {
  alignas(64) char a_tail[kRowTiles][kTileBytes] = {};
  alignas(64) char b_tail[2][kTileBytes] = {};
  for (int i = 0; i < kTiles; ++i) {
    for (int64_t r = 0; r < t.rows; ++r) {
      memcpy(a_tail[i] + r * kLineBytes, a[i] + r * t.row_bytes, static_cast<size_t>(2 * k));
    }
  }
  for (int j = 0; j < kPanels; ++j) memcpy(b_tail[j], b[j], static_cast<size_t>((k + 1) / 2 * kLineBytes));
  Step<kTiles, kPanels>(a_tail[0], a_tail[1], kLineBytes, b_tail[0], b_tail[1]);
}

// Finished tiles on their way to C. Activations take the vector units about as long as a short product takes the tile
// unit, so the rows of one block are finished between the steps of the next.
struct Pending {
  const GemmArgs* gemm;
  FinishFunction finish;
  struct Part {
    const float* tile;
    int64_t rows, row, group;
  } parts[kRowTiles];
  int count = 0;
  int64_t n, columns;

  void Drain(int64_t rows) {
    while (count > 0 && rows > 0) {
      Part& part = parts[count - 1];
      const int64_t now = rows < part.rows ? rows : part.rows;
      finish(*gemm, part.tile, now, part.row, part.group, n, columns);
      part.tile += now * kTileStride, part.row += now, part.rows -= now;
      rows -= now;
      if (part.rows == 0) --count;
    }
  }
};

template <int kTiles, int kPanels, bool kTwoTerms>
[[gnu::noinline]] static void Block(const BlockArgs& t, Pending& pending) {
  TileLoad<0>(t.bias[0], 0);  // stride 0: every row of the tile is the bias
  if constexpr (kPanels > 1) TileLoad<1>(t.bias[1], 0);
  if constexpr (kTiles > 1) TileLoad<2>(t.bias[0], 0);
  if constexpr (kTiles > 1 && kPanels > 1) TileLoad<3>(t.bias[1], 0);
  const char *b0 = t.b[0], *b1 = t.b[1], *ahead0 = t.ahead[0], *ahead1 = t.ahead[1];
  constexpr int64_t kTerms = kTwoTerms ? 2 : 1;
  const int64_t stride = t.row_bytes, steps = t.segment_k / kStepK, tail = kTwoTerms ? 0 : t.segment_k % kStepK;
  const int64_t lines = t.ahead_lines, num_segments = t.num_segments;
  for (int64_t s = 0; s < num_segments; ++s) {
    const char *a0 = t.a[0] + t.segment_bytes[s], *a1 = t.a[kTiles - 1] + t.segment_bytes[s];
    for (int64_t k = 0; k < steps; ++k) {
      if constexpr (kTwoTerms) {
        StepOfTerms<kTiles, kPanels>(a0, a1, stride, b0, b1);
      } else {
        Step<kTiles, kPanels>(a0, a1, stride, b0, b1);
      }
      a0 += kTerms * kLineBytes, a1 += kTerms * kLineBytes, b0 += kTerms * kTileBytes, b1 += kTerms * kTileBytes;
      for (int64_t line = 0; line < lines; ++line, ahead0 += kLineBytes, ahead1 += kLineBytes) {
        __builtin_prefetch(ahead0, 0, 2);
        if constexpr (kPanels > 1) __builtin_prefetch(ahead1, 0, 2);
      }
      if (pending.count > 0) pending.Drain(t.drain_rows);
    }
    if (tail == 0) continue;
    const char *const a[] = {a0, a1}, *const b[] = {b0, b1};
    TailStep<kTiles, kPanels>(t, a, b, tail);
    b0 += (tail + 1) / 2 * kLineBytes, b1 += (tail + 1) / 2 * kLineBytes;
  }
  constexpr int64_t kStride = kTileStride * sizeof(float);
  TileStore<0>(t.tile, kStride);
  if constexpr (kPanels > 1) TileStore<1>(t.tile + kPanel, kStride);
  if constexpr (kTiles > 1) TileStore<2>(t.tile + kTileRows * kTileStride, kStride);
  if constexpr (kTiles > 1 && kPanels > 1) TileStore<3>(t.tile + kTileRows * kTileStride + kPanel, kStride);
}

using BlockFunction = void (*)(const BlockArgs&, Pending&);
template <bool kTwoTerms>
static const BlockFunction kBlocks[2][2] = {{Block<1, 1, kTwoTerms>, Block<1, 2, kTwoTerms>},
                                            {Block<2, 1, kTwoTerms>, Block<2, 2, kTwoTerms>}};

// How a call's rows are cut: each group into `tiles` tiles of `height` rows, numbered through all groups.
struct RowCut {
  int64_t rows, tiles, height;
  explicit RowCut(int64_t all)
      : rows(all), tiles((all + kTileRows - 1) / kTileRows), height((all + tiles - 1) / tiles) {}
  int64_t stored_first(int64_t tile) const { return tile * height; }
  int64_t first(int64_t tile) const { return tile * height < rows - height ? tile * height : rows - height; }
};

static void Configure(int64_t height) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = kLineBytes;
    config.rows[i] = static_cast<uint8_t>(i < 6 ? height : kTileRows);
  }
  asm volatile("ldtilecfg %0" : : "m"(config));
}

// All row tiles against one pair of panels.
template <bool kTwoTerms>
static void BlockPair(const GemmArgs& g, const RowCut& cut, BlockArgs& t, int panels, int64_t next, int64_t n,
                      int64_t columns, float* buffers, Pending& pending) {
  const int64_t tiles = cut.tiles * g.groups, blocks = (tiles + kRowTiles - 1) / kRowTiles;
  const char* const ahead[2] = {t.b[0] + next * g.b_panel_bytes, t.b[1] + next * g.b_panel_bytes};
  const int64_t lines = ((kTwoTerms ? 2 : 1) * kTileRows + blocks - 1) / blocks;
  t.ahead_lines = next == 0 ? 0 : lines;
  for (int64_t tile = 0; tile < tiles; tile += kRowTiles) {
    const int count = tiles - tile < kRowTiles ? 1 : kRowTiles;
    for (int i = 0; i < count; ++i) {
      const int64_t group = (tile + i) / cut.tiles, first = cut.first((tile + i) % cut.tiles);
      t.a[i] = static_cast<const char*>(g.a) + group * g.a_group_bytes + first * g.a_row_bytes;
    }
    for (int j = 0; j < 2; ++j) t.ahead[j] = ahead[j] + tile / kRowTiles * (g.b_panel_bytes / blocks);
    t.tile = t.tile == buffers ? buffers + kBufferFloats : buffers;
    kBlocks<kTwoTerms>[count - 1][panels - 1](t, pending);
    pending.Drain(kRowTiles * kTileRows);
    pending.n = n, pending.columns = columns, pending.count = count;
    for (int i = 0; i < count; ++i) {
      const int64_t at = (tile + i) % cut.tiles, row = cut.stored_first(at), skip = row - cut.first(at);
      pending.parts[i] = {t.tile + (i * kTileRows + skip) * kTileStride, cut.height - skip, row,
                          (tile + i) / cut.tiles};
    }
  }
}

template <bool kTwoTerms>
static void AmxGemm(const GemmArgs& g) {
  alignas(64) float buffers[2 * kBufferFloats];
  static const int64_t kOneSegment = 0;
  const RowCut cut(g.rows);
  BlockArgs t{};
  t.row_bytes = g.a_row_bytes, t.rows = cut.height;
  t.segment_bytes = g.segment_bytes != nullptr ? g.segment_bytes : &kOneSegment;
  t.num_segments = g.num_segments, t.segment_k = g.segment_k;
  const int64_t steps = g.num_segments * (g.segment_k / kStepK);
  t.drain_rows = steps > 0 ? (kRowTiles * kTileRows + steps - 1) / steps : 0;
  Pending pending{&g, kFinish[static_cast<int>(g.epilogue)][static_cast<int>(g.c_mode)]};
  const bool glu = g.epilogue == Epilogue::kGlu;
  const int64_t step = glu ? 1 : 2;
  Configure(cut.height);
  for (int64_t panel = g.first_panel; panel < g.last_panel; panel += step) {
    const int64_t second = glu ? panel + g.glu_panels : panel + 1;
    const int panels = glu || second < g.last_panel ? 2 : 1;
    const int64_t pair[2] = {panel, panels > 1 ? second : panel};
    for (int j = 0; j < 2; ++j) {
      t.b[j] = static_cast<const char*>(g.b) + pair[j] * g.b_panel_bytes;
      t.bias[j] = g.bias + pair[j] * kPanel;
    }
    const int64_t n = panel * kPanel, widest = step == 2 ? panels * kPanel : kPanel;
    const int64_t next = panel + step < g.last_panel ? step : 0;
    BlockPair<kTwoTerms>(g, cut, t, panels, next, n, g.N - n < widest ? g.N - n : widest, buffers, pending);
  }
  pending.Drain(kRowTiles * kTileRows);
  asm volatile("tilerelease");
}

// Products of whole tiles on registers; returns the floating-point operations done.
static double AmxPeak(int64_t iterations) {
  Configure(kTileRows);
  alignas(64) static const float kZeros[kPanel] = {};
  TileLoad<4>(kZeros, 0), TileLoad<5>(kZeros, 0), TileLoad<6>(kZeros, 0), TileLoad<7>(kZeros, 0);
  TileLoad<0>(kZeros, 0), TileLoad<1>(kZeros, 0), TileLoad<2>(kZeros, 0), TileLoad<3>(kZeros, 0);
  for (int64_t i = 0; i < iterations; ++i) {
    TileProduct<0, 4, 6>(), TileProduct<1, 4, 7>(), TileProduct<2, 5, 6>(), TileProduct<3, 5, 7>();
  }
  asm volatile("tilerelease");
  return static_cast<double>(iterations) * 4 * 2 * kTileRows * kStepK * kPanel;
}

}  // namespace ting::cpu::TING_ISA
#endif
