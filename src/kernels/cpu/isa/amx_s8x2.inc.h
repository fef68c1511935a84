// src/kernels/cpu/isa/amx_s8x2.inc.h
// SPDX-License-Identifier: Apache-2.0
//
// Products of 16-bit integers by AMX (GemmArgs with mode kS8x2). Both sides are 256 * high + low in signed integers of
// 8 bits, and a product is three of these, each summed exactly in 32 bits: high by high, high by low and low by high.
// Low by low is left out: a third more products would take a third of a small error away (docs/accuracy.md). AMX
// multiplies twice as many bytes as bf16 at a time, so three take one and a half times as long as bf16.
//
// One row tile meets two panels, in four sums. After a block of k (256, which have one factor) the sums go to memory,
// and while the next block is multiplied, the vector units put them together and add them in f32. A block of k of two
// panels stays in the first-level cache while all rows pass.
#pragma once

#include "kernels/cpu/isa/amx.inc.h"

#if defined(TING_S8X2)
namespace ting::cpu::TING_ISA {
namespace {  // or member functions would be symbols that other objects could share

inline constexpr int kSumTiles = 8;  // row tiles that pass together
inline constexpr int64_t kStepBytesS8x2 = 2 * kTileBytes;

// Sums over a block of k of one row tile and up to two panels.
struct alignas(64) TermSums {
  int32_t high[2][kTileRows][kPanel], middle[2][kTileRows][kPanel];
};

template <int kSum, int kA, int kB>
TING_INLINE void IntegerProduct() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

// 64 k. a, b0 and b1: the high terms; behind them the low ones. Registers 0 and 1: sums of high by high; 2 and 3: of
// the other two. In an order in which a register's last use comes long before its next load, and a sum's two products
// stand apart: one takes longer than three begin.
template <int kPanels>
TING_INLINE void StepS8x2(const char* a, int64_t a_stride, const char* b0, const char* b1) {
  TileLoad<6>(b0 + kTileBytes, kLineBytes);
  TileLoad<4>(a, a_stride);
  IntegerProduct<2, 4, 6>();
  if constexpr (kPanels > 1) {
    TileLoad<7>(b1 + kTileBytes, kLineBytes);
    IntegerProduct<3, 4, 7>();
  }
  TileLoad<6>(b0, kLineBytes);
  IntegerProduct<0, 4, 6>();
  if constexpr (kPanels > 1) {
    TileLoad<7>(b1, kLineBytes);
    IntegerProduct<1, 4, 7>();
  }
  TileLoad<5>(a + kTermBytes, a_stride);
  IntegerProduct<2, 5, 6>();
  if constexpr (kPanels > 1) IntegerProduct<3, 5, 7>();
}

// A block's sums on their way into the f32 sums of their rows and, if it is a row's last, to C.
struct PendingSums {
  const TermSums* terms;
  const char* factor;  // of row 0 of the tile
  int64_t row_bytes;   // from one factor to the next
  float* sums;         // rows of kTileStride
  const float *column_factors[2], *bias[2];
};

// Rows [begin, end). kFirst, kLast: of the blocks of k.
template <int kPanels, bool kFirst, bool kLast>
static void AddRows(const PendingSums& pending, int64_t begin, int64_t end) {
  const int32_t* high = pending.terms->high[0][begin];
  const char* factor = pending.factor + begin * pending.row_bytes;
  float* sums = pending.sums + begin * kTileStride;
  VecF column_factors[kPanels], bias[kPanels];
  for (int j = 0; kLast && j < kPanels; ++j) {
    column_factors[j] = Load(pending.column_factors[j]), bias[j] = Load(pending.bias[j]);
  }
  const int64_t row_bytes = pending.row_bytes;
  constexpr int64_t kPanelSums = kTileRows * kPanel, kToMiddle = 2 * kPanelSums;
#pragma GCC unroll 2
  for (const int32_t* const stop = high + (end - begin) * kPanel; high != stop; high += kPanel) {
    float of_row;
    memcpy(&of_row, factor, sizeof of_row);
    const VecF scale = Set1(256.0F * of_row);
#pragma GCC unroll 2
    for (int j = 0; j < kPanels; ++j) {
      // At most 256 * 127 * 127 * 256 + 2 * 256 * 128 * 128: within 32 bits.
      const __m512i shifted = _mm512_slli_epi32(_mm512_load_si512(high + j * kPanelSums), 8);
      const __m512i integer = _mm512_add_epi32(shifted, _mm512_load_si512(high + kToMiddle + j * kPanelSums));
      VecF sum = (VecF)_mm512_cvtepi32_ps(integer);
      sum = kFirst ? sum * scale : Fma(sum, scale, Load(sums + j * kPanel));
      if constexpr (kLast) sum = Fma(sum, column_factors[j], bias[j]);
      Store(sums + j * kPanel, sum);
    }
    factor += row_bytes, sums += kTileStride;
  }
}
using AddFunction = void (*)(const PendingSums&, int64_t, int64_t);
template <int kPanels>
static const AddFunction kAddRows[2][2] = {{AddRows<kPanels, false, false>, AddRows<kPanels, false, true>},
                                           {AddRows<kPanels, true, false>, AddRows<kPanels, true, true>}};

// What remains to be done for a block of k of a row tile, a few rows at a time.
struct PendingTile {
  const GemmArgs* gemm;
  FinishFunction finish;
  PendingSums sums{};
  AddFunction add = nullptr;
  int64_t done = 0, rows = 0;
  // Rows from `skip` on are row `row` and following of C; skip = rows: C is not yet due.
  int64_t skip = 0, row = 0, group = 0, n = 0, columns = 0;

  [[gnu::always_inline]] void Drain(int64_t count) {
    if (done < rows) DrainRows(count);
  }
  [[gnu::noinline]] void DrainRows(int64_t count) {
    const int64_t begin = done, end = rows - done < count ? rows : done + count;
    add(sums, begin, end);
    done = end;
    const int64_t from = begin > skip ? begin : skip;
    if (from < end) {
      finish(*gemm, sums.sums + from * kTileStride, end - from, row + from - skip, group, n, columns);
    }
  }
};

// Walks through the next pair of panels, fetching it into the second-level cache; see gemm.inc.h.
struct Ahead {
  const char *at[2], *end;  // of the first
  int64_t lines;            // a step
  [[gnu::always_inline]] void Fetch() {
    for (int64_t i = 0; i < lines && at[0] < end; ++i, at[0] += kLineBytes, at[1] += kLineBytes) {
      __builtin_prefetch(at[0], 0, 2);
      __builtin_prefetch(at[1], 0, 2);
    }
  }
};

// One block of k, up to 256 of a segment, of a row tile and a pair of panels.
struct BlockS8x2 {
  const char *a, *b[2];
  int64_t row_bytes, steps;  // of 64 k
};

template <int kPanels>
[[gnu::noinline]] static void MultiplyBlock(const BlockS8x2& block, Ahead& ahead_of_call, PendingTile& pending,
                                            TermSums* terms) {
  asm volatile("tilezero %tmm0\n\ttilezero %tmm1\n\ttilezero %tmm2\n\ttilezero %tmm3");
  Ahead ahead = ahead_of_call;
  const int64_t steps = block.steps, row_bytes = block.row_bytes, drain_rows = (kTileRows + steps - 1) / steps;
  const char *a = block.a, *b0 = block.b[0], *b1 = block.b[1];
  for (int64_t k = 0; k < steps; ++k, a += 2 * kTermBytes, b0 += kStepBytesS8x2, b1 += kStepBytesS8x2) {
    StepS8x2<kPanels>(a, row_bytes, b0, b1);
    ahead.Fetch();
    pending.Drain(drain_rows);
  }
  ahead_of_call = ahead;
  TileStore<2>(terms->middle[0], kLineBytes);
  TileStore<0>(terms->high[0], kLineBytes);
  if constexpr (kPanels > 1) {
    TileStore<3>(terms->middle[1], kLineBytes);
    TileStore<1>(terms->high[1], kLineBytes);
  }
}

// What a call keeps: the panels and rows at work, their sums, and the block before.
class ProductS8x2 {
 public:
  explicit ProductS8x2(const GemmArgs& args)
      : g_(args),
        cut_(args.rows),
        tiles_(cut_.tiles * args.groups),
        pending_{&args, kFinish[static_cast<int>(args.epilogue)][static_cast<int>(args.c_mode)]} {}

  void Run() {
    Configure(cut_.height);
    const int64_t step = g_.epilogue == Epilogue::kGlu ? 1 : 2;
    for (int64_t panel = g_.first_panel; panel < g_.last_panel; panel += step) MultiplyPanels(panel, step);
    pending_.Drain(kTileRows);
    asm volatile("tilerelease");
  }

 private:
  struct RowTile {
    const char* a;
    int64_t skip, row, group;  // see PendingTile
  };

  void MultiplyPanels(int64_t panel, int64_t step) {
    const int64_t second = step == 1 ? panel + g_.glu_panels : panel + 1;
    panels_ = step == 1 || second < g_.last_panel ? 2 : 1;
    pair_[0] = panel, pair_[1] = panels_ > 1 ? second : panel;
    const int64_t widest = step == 2 ? panels_ * kPanel : kPanel;
    n_ = panel * kPanel, columns_ = g_.N - n_ < widest ? g_.N - n_ : widest;
    const auto next = [&](int j) { return static_cast<const char*>(g_.b) + (pair_[j] + step) * g_.b_panel_bytes; };
    const bool more = panel + step < g_.last_panel;
    ahead_ = {{next(0), next(1)},
              more ? next(0) + g_.b_panel_bytes : next(0),
              (kStepBytesS8x2 / kLineBytes + tiles_ - 1) / tiles_};
    for (int64_t tile = 0; tile < tiles_; tile += kSumTiles) {
      ListRowTiles(tile);
      MultiplyRowTiles();
    }
  }

  void ListRowTiles(int64_t first) {
    listed_ = tiles_ - first < kSumTiles ? tiles_ - first : kSumTiles;
    for (int64_t i = 0; i < listed_; ++i) {
      const int64_t group = (first + i) / cut_.tiles, at = (first + i) % cut_.tiles, row = cut_.stored_first(at);
      const char* const a = static_cast<const char*>(g_.a) + group * g_.a_group_bytes + cut_.first(at) * g_.a_row_bytes;
      listed_tiles_[i] = {a, row - cut_.first(at), row, group};
    }
  }

  // The listed tiles through all of k.
  void MultiplyRowTiles() {
    BlockS8x2 block;
    for (int j = 0; j < 2; ++j) block.b[j] = static_cast<const char*>(g_.b) + pair_[j] * g_.b_panel_bytes;
    block.row_bytes = g_.a_row_bytes;
    for (int64_t segment = 0; segment < g_.num_segments; ++segment) {
      int64_t at = g_.segment_bytes == nullptr ? 0 : g_.segment_bytes[segment];  // from a row's start
      for (int64_t k = 0; k < g_.segment_k; k += kBlockValuesS8x2, at += kBlockBytesS8x2) {
        const int64_t left = g_.segment_k - k;
        const bool first = segment == 0 && k == 0, last = segment == g_.num_segments - 1 && left <= kBlockValuesS8x2;
        block.steps = (left < kBlockValuesS8x2 ? left : kBlockValuesS8x2) / kRunValuesS8x2;
        for (int64_t i = 0; i < listed_; ++i) {
          block.a = listed_tiles_[i].a + at;
          Multiply(block, i, first, last);
        }
        for (int j = 0; j < 2; ++j) block.b[j] += block.steps * kStepBytesS8x2;
      }
    }
  }

  // A block of listed tile i. first, last: of the blocks of k.
  void Multiply(const BlockS8x2& block, int64_t i, bool first, bool last) {
    TermSums* const to = pending_.sums.terms == &terms_[0] ? &terms_[1] : &terms_[0];
    (panels_ > 1 ? MultiplyBlock<2> : MultiplyBlock<1>)(block, ahead_, pending_, to);
    pending_.Drain(kTileRows);
    PendingSums& sums = pending_.sums;
    sums.terms = to;
    sums.factor = block.a + block.steps * 2 * kTermBytes, sums.row_bytes = g_.a_row_bytes;
    sums.sums = sums_ + i * kTileRows * kTileStride;
    for (int j = 0; j < 2; ++j) {
      sums.column_factors[j] = g_.factors + pair_[j] * kPanel, sums.bias[j] = g_.bias + pair_[j] * kPanel;
    }
    const RowTile& tile = listed_tiles_[i];
    pending_.add = (panels_ > 1 ? kAddRows<2> : kAddRows<1>)[first][last];
    pending_.done = 0, pending_.rows = cut_.height;
    pending_.skip = last ? tile.skip : cut_.height, pending_.row = tile.row, pending_.group = tile.group;
    pending_.n = n_, pending_.columns = columns_;
  }

  const GemmArgs& g_;
  const RowCut cut_;
  const int64_t tiles_;
  PendingTile pending_;
  Ahead ahead_;
  int64_t pair_[2], n_, columns_, listed_;
  int panels_;
  RowTile listed_tiles_[kSumTiles];
  alignas(64) float sums_[kSumTiles * kTileRows * kTileStride];
  TermSums terms_[2];
};

void AmxGemmS8x2(const GemmArgs& g) { ProductS8x2(g).Run(); }

}  // namespace
}  // namespace ting::cpu::TING_ISA
#endif
