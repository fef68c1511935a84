// src/kernels/cpu/isa/finish.inc.h
// SPDX-License-Identifier: Apache-2.0
//
// The end of a matrix product: activation, scale and residual on a finished tile of f32 sums (the bias is in them),
// which lies in the first-level cache, on its way to C.
#pragma once

#include "kernels/cpu/isa/isa.h"
#include "kernels/cpu/isa/simd.h"

namespace ting::cpu::TING_ISA {

inline constexpr int kPanel = 16;
inline constexpr int64_t kLineBytes = 64;
inline constexpr int kTileStride = 2 * kPanel;  // floats from one row of a finished tile to the next

TING_INLINE VecF Gelu(VecF x) {
  float lane[kLanes];
  Store(lane, x);
  for (int i = 0; i < kLanes; ++i) lane[i] = 0.5F * lane[i] * (1.0F + __builtin_erff(lane[i] * 0.70710678F));
  return Load(lane);
}
template <Epilogue kEpilogue, bool kCoarse = false>
TING_INLINE VecF Activate(VecF x) {
  if constexpr (kEpilogue == Epilogue::kRelu) return Max(VecF{}, x);
  if constexpr (kEpilogue == Epilogue::kSwish) return x * Sigmoid<kCoarse>(x);
  if constexpr (kEpilogue == Epilogue::kGelu) return Gelu(x);
  return x;
}

#if defined(__AMX_BF16__)
// Where the high term of a column lies in a row in runs (GemmMode::kBF16x2).
TING_INLINE char* InRun(char* row, uint64_t column) {
  return row + column / kRunValues * (2 * kTermBytes) + column % kRunValues * 2;
}
// Apart and not inlined, lest the compiler prepare sixteen addresses in every loop that never comes here.
[[gnu::noinline]] static void StoreBf16x2Partial(char* row, int64_t column, VecF v, int64_t n) {
  const VecF nearest = RoundBf16(v);
  uint16_t terms[2][kLanes];
  StoreBf16(terms[0], v);
  StoreBf16(terms[1], v - nearest);
  for (int64_t i = 0; i < n && i < kLanes; ++i) {
    char* at = InRun(row, static_cast<uint64_t>(column + i));
    memcpy(at, &terms[0][i], 2);
    memcpy(at + kTermBytes, &terms[1][i], 2);
  }
}
// Values `column` and on of such a row.
TING_INLINE void StoreBf16x2(char* row, int64_t column, VecF v, int64_t n) {
  if (n < kLanes || column % kLanes != 0) return StoreBf16x2Partial(row, column, v, n);
  char* at = InRun(row, static_cast<uint64_t>(column));
  const __m256bh high = _mm512_cvtneps_pbh(v);
  const VecF nearest = (VecF)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)high), 16);
  const __m256bh low = _mm512_cvtneps_pbh(v - nearest);
  memcpy(at, &high, sizeof high);
  memcpy(at + kTermBytes, &low, sizeof low);
}
#endif

#if defined(__AVX512VNNI__)
#define TING_S16
// Run `run` of a row in runs (GemmMode::kS16): 32 values and their factor.
TING_INLINE void StoreS16Run(char* row, int64_t factors_bytes, int64_t run, VecF first, VecF second) {
  const float largest = ReduceMax(Max(_mm512_abs_ps(first), _mm512_abs_ps(second)));
  const VecF inverse = Set1(largest > 1e-30F ? kMostOfRun / largest : 0.0F);  // lest it be infinite
  const float factor = largest / kMostOfRun;
  const __m256i low = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(first * inverse));
  const __m256i high = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(second * inverse));
  char* at = row + run * kRunValues * 2;
  memcpy(at, &low, sizeof low);
  memcpy(at + sizeof low, &high, sizeof high);
  memcpy(row + factors_bytes + run * 4, &factor, sizeof factor);
}
#endif

#if defined(__AMX_INT8__)
#define TING_S8X2
// Where a term of value i of 64 lies after two vpackssdw: byte `term` of a 16-bit integer.
struct TermPlaces {
  alignas(64) uint8_t of[2][64];
  constexpr TermPlaces() : of() {
    for (int i = 0; i < 64; ++i) {
      const int vector = i / 16, lane = i % 16 / 4, integer = lane * 8 + vector % 2 * 4 + i % 4;
      for (int term = 0; term < 2; ++term) of[term][i] = static_cast<uint8_t>(vector / 2 * 64 + 2 * integer + term);
    }
  }
};
static constexpr TermPlaces kTermPlaces;

// `count` values, up to a block, as integers of two terms, with zeros up to whole runs, and their factor. A term's
// integer is rounded with 128 added: then its upper byte is the high term, its lower one the low term with its sign
// turned.
TING_INLINE void StoreS8x2Block(const float* values, int64_t count, char* block) {
  VecF largest_lanes{};
  for (int64_t i = 0; i < count; i += kLanes) {
    largest_lanes = Max(largest_lanes, _mm512_abs_ps(LoadPartial(values + i, count - i)));
  }
  const float largest = ReduceMax(largest_lanes), factor = largest / kMostOfBlock;
  const VecF inverse = Set1(largest > 1e-30F ? kMostOfBlock / largest : 0.0F);  // lest it be infinite
  const __m512i high_places = _mm512_load_si512(kTermPlaces.of[1]), low_places = _mm512_load_si512(kTermPlaces.of[0]);
  char* at = block;
  for (int64_t i = 0; i < count; i += kRunValuesS8x2, at += 2 * kTermBytes) {
    __m512i integers[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int64_t first = i + v * kLanes, left = count > first ? count - first : 0;
      integers[v] = _mm512_cvtps_epi32(Fma(LoadPartial(values + (left > 0 ? first : 0), left), inverse, Set1(128.0F)));
    }
    const __m512i first = _mm512_packs_epi32(integers[0], integers[1]);
    const __m512i second = _mm512_packs_epi32(integers[2], integers[3]);
    _mm512_storeu_si512(at, _mm512_permutex2var_epi8(first, high_places, second));
    const __m512i low = _mm512_permutex2var_epi8(first, low_places, second);
    _mm512_storeu_si512(at + kTermBytes, _mm512_xor_si512(low, _mm512_set1_epi8(-128)));
  }
  memcpy(at, &factor, sizeof factor);
}
#endif

// Not for kS16 and kS8x2, which need a run or a block at a time.
TING_INLINE void StoreAs(GemmMode mode, void* p, int64_t i, VecF v, int64_t n) {
#if defined(__AMX_BF16__)
  if (mode == GemmMode::kBF16x2) return StoreBf16x2(static_cast<char*>(p), i, v, n);
#endif
  if (mode == GemmMode::kBF16) {
    StoreBf16Partial(static_cast<uint16_t*>(p) + i, v, n);
  } else {
    StorePartial(static_cast<float*>(p) + i, mode == GemmMode::kRounded ? RoundBf16(v) : v, n);
  }
}

// `columns` values of one row of a finished tile. A constant count (whole panels) leaves no branch in the loop.
template <Epilogue kEpilogue, GemmMode kMode>
TING_INLINE void FinishRow(const float* tile, int64_t columns, VecF scale, const float* residual, void* c, int64_t n) {
  constexpr bool kCoarse = kMode == GemmMode::kBF16;
#pragma GCC unroll 2
  for (int64_t i = 0; i < columns; i += kLanes) {
    VecF v = Load(tile + i);
    if constexpr (kEpilogue == Epilogue::kGlu) {
      v = v * Sigmoid<kCoarse>(Load(tile + kPanel + i));
    } else {
      v = Activate<kEpilogue, kCoarse>(v);
    }
    const int64_t left = columns - i;
    v = residual != nullptr ? Fma(v, scale, LoadPartial(residual + i, left)) : v * scale;
    StoreAs(kMode, c, n + i, v, left);
  }
}

#if defined(TING_S16)
// A run of one row: `columns` values, then zeros.
template <Epilogue kEpilogue>
TING_INLINE void FinishS16Row(const GemmArgs& g, const float* tile, int64_t columns, VecF scale, const float* residual,
                              char* c, int64_t n) {
  VecF v[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const int64_t left = columns > i * kLanes ? columns - i * kLanes : 0;
    v[i] = Activate<kEpilogue>(LoadPartial(tile + i * kLanes, left)) * scale;
    if (residual != nullptr) v[i] += LoadPartial(residual + i * kLanes, left);
  }
  StoreS16Run(c, g.c_factors_bytes, n / kRunValues, v[0], v[1]);
}
#endif

// One finished tile to C: rows x `columns` (up to 32; kGlu: up to 16) at column n.
template <Epilogue kEpilogue, GemmMode kMode>
static void Finish(const GemmArgs& g, const float* tile, int64_t rows, int64_t row, int64_t group, int64_t n,
                   int64_t columns) {
  constexpr int64_t kWhole = kEpilogue == Epilogue::kGlu ? kPanel : 2 * kPanel;
  char* c = static_cast<char*>(g.c) + group * g.c_group_bytes + row * g.c_row_bytes;
  const VecF scale = Set1(g.scale);
  const float* residual = g.residual == nullptr ? nullptr : g.residual + row * g.residual_stride + n;
  for (int64_t r = 0; r < rows; ++r, tile += kTileStride, c += g.c_row_bytes) {
#if defined(TING_S16)
    if constexpr (kMode == GemmMode::kS16) {
      FinishS16Row<kEpilogue>(g, tile, columns, scale, residual, c, n);
      if (residual != nullptr) residual += g.residual_stride;
      continue;
    }
#endif
    if (columns == kWhole) {
      FinishRow<kEpilogue, kMode>(tile, kWhole, scale, residual, c, n);
    } else {
      FinishRow<kEpilogue, kMode>(tile, columns, scale, residual, c, n);
    }
    if (residual != nullptr) residual += g.residual_stride;
  }
}

using FinishFunction = void (*)(const GemmArgs&, const float*, int64_t, int64_t, int64_t, int64_t, int64_t);
#if defined(TING_S16)
// None for kGlu, whose results are half a run wide.
template <Epilogue kEpilogue>
static constexpr FinishFunction FinishS16() {
  if constexpr (kEpilogue == Epilogue::kGlu) {
    return nullptr;
  } else {
    return Finish<kEpilogue, GemmMode::kS16>;
  }
}
#endif
#if defined(__AMX_BF16__)
#define TING_FINISH_BF16X2(E) Finish<E, GemmMode::kBF16x2>
#else
#define TING_FINISH_BF16X2(E) nullptr
#endif
#if defined(TING_S16)
#define TING_FINISH_S16(E) FinishS16<E>()
#else
#define TING_FINISH_S16(E) nullptr
#endif
#define TING_FINISH_ROW(E)                                                                                       \
  {                                                                                                              \
    Finish<E, GemmMode::kF32>, Finish<E, GemmMode::kBF16>, Finish<E, GemmMode::kRounded>, TING_FINISH_BF16X2(E), \
        TING_FINISH_S16(E)                                                                                       \
  }
static const FinishFunction kFinish[5][5] = {TING_FINISH_ROW(Epilogue::kNone), TING_FINISH_ROW(Epilogue::kRelu),
                                             TING_FINISH_ROW(Epilogue::kSwish), TING_FINISH_ROW(Epilogue::kGelu),
                                             TING_FINISH_ROW(Epilogue::kGlu)};

}  // namespace ting::cpu::TING_ISA
