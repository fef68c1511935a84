// src/kernels/cpu/isa/rows.inc.h
// SPDX-License-Identifier: Apache-2.0
//
// Row-wise work: LayerNorm (or conversion) into the type that a product reads, the running maximum / sum of
// exponentials / k best of logits, and plain elementwise loops. Sums use four vector accumulators in a fixed
// order, so that a row gives the same bits wherever it stands.
#pragma once

#include "kernels/cpu/isa/gemm.inc.h"

namespace ting::cpu::TING_ISA {

TING_INLINE float Sum(const float* x, int64_t n) {
  VecF s[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) s[j] += Load(x + i + j * kLanes);
  }
  for (; i < n; i += kLanes) s[0] += LoadPartial(x + i, n - i);
  return ReduceAdd((s[0] + s[1]) + (s[2] + s[3]));
}
TING_INLINE float SumSquaredDeviations(const float* x, int64_t n, float mean) {
  VecF s[4] = {};
  const VecF m = Set1(mean);
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) {
      const VecF d = Load(x + i + j * kLanes) - m;
      s[j] = Fma(d, d, s[j]);
    }
  }
  for (; i < n; i += kLanes) {
    const VecF d = LoadPartial(x + i, n - i, mean) - m;
    s[0] = Fma(d, d, s[0]);
  }
  return ReduceAdd((s[0] + s[1]) + (s[2] + s[3]));
}

#if defined(TING_S16)
// A row in runs from value(i, n): the n values at i, n at most a vector's.
template <typename Value>
TING_INLINE void StoreS16Row(int64_t D, void* y, const Value& value) {
  const int64_t factors_bytes = (D + kRunValues - 1) / kRunValues * kRunValues * 2;
  for (int64_t i = 0; i < D; i += kRunValues) {
    const int64_t second = i + kLanes < D ? i + kLanes : D;
    StoreS16Run(static_cast<char*>(y), factors_bytes, i / kRunValues, value(i, D - i), value(second, D - second));
  }
}
#endif
#if defined(TING_S8X2)
// The same in blocks.
template <typename Value>
TING_INLINE void StoreS8x2Row(int64_t D, void* y, const Value& value) {
  char* block = static_cast<char*>(y);
  int64_t first = 0;
  for (; first + kBlockValuesS8x2 <= D; first += kBlockValuesS8x2, block += kBlockBytesS8x2) {
    alignas(64) float values[kBlockValuesS8x2];
    for (int64_t i = 0; i < kBlockValuesS8x2; i += kLanes) Store(values + i, value(first + i, kLanes));
    StoreS8x2Block(values, kBlockValuesS8x2, block);
  }
  if (first == D) return;
  alignas(64) float values[kBlockValuesS8x2];
  for (int64_t i = 0; first + i < D; i += kLanes) Store(values + i, value(first + i, D - first - i));
  StoreS8x2Block(values, D - first, block);
}
#endif

template <GemmMode kMode>
TING_INLINE void NormRow(const float* x, int64_t D, const float* gamma, const float* beta, float eps, void* y) {
  if (gamma == nullptr) {
#if defined(TING_S16)
    if constexpr (kMode == GemmMode::kS16) {
      return StoreS16Row(D, y, [&](int64_t i, int64_t n) { return LoadPartial(x + i, n); });
    }
#endif
#if defined(TING_S8X2)
    if constexpr (kMode == GemmMode::kS8x2) {
      return StoreS8x2Row(D, y, [&](int64_t i, int64_t n) { return LoadPartial(x + i, n); });
    }
#endif
    for (int64_t i = 0; i < D; i += kLanes) StoreAs(kMode, y, i, LoadPartial(x + i, D - i), D - i);
    return;
  }
  const float mean = Sum(x, D) / static_cast<float>(D);
  const float variance = SumSquaredDeviations(x, D, mean) / static_cast<float>(D);
  const VecF m = Set1(mean), rstd = Set1(1.0F / __builtin_sqrtf(variance + eps));
  const auto value = [&](int64_t i, int64_t n) {
    return Fma((LoadPartial(x + i, n) - m) * rstd, LoadPartial(gamma + i, n), LoadPartial(beta + i, n));
  };
#if defined(TING_S16)
  if constexpr (kMode == GemmMode::kS16) return StoreS16Row(D, y, value);
#endif
#if defined(TING_S8X2)
  if constexpr (kMode == GemmMode::kS8x2) return StoreS8x2Row(D, y, value);
#endif
  for (int64_t i = 0; i < D; i += kLanes) StoreAs(kMode, y, i, value(i, D - i), D - i);
}
TING_INLINE void NormRowAs(GemmMode mode, const float* x, int64_t D, const float* gamma, const float* beta, float eps,
                           void* y) {
  if (mode == GemmMode::kF32) NormRow<GemmMode::kF32>(x, D, gamma, beta, eps, y);
  if (mode == GemmMode::kBF16) NormRow<GemmMode::kBF16>(x, D, gamma, beta, eps, y);
  if (mode == GemmMode::kRounded) NormRow<GemmMode::kRounded>(x, D, gamma, beta, eps, y);
#if defined(__AMX_BF16__)
  if (mode == GemmMode::kBF16x2) NormRow<GemmMode::kBF16x2>(x, D, gamma, beta, eps, y);
#endif
#if defined(TING_S16)
  if (mode == GemmMode::kS16) NormRow<GemmMode::kS16>(x, D, gamma, beta, eps, y);
#endif
#if defined(TING_S8X2)
  if (mode == GemmMode::kS8x2) NormRow<GemmMode::kS8x2>(x, D, gamma, beta, eps, y);
#endif
}
TING_INLINE void ZeroPad(GemmMode mode, void* y, int64_t D, int64_t padded_D) {
  if (mode == GemmMode::kS16 || mode == GemmMode::kS8x2) return;  // whole runs are stored
  if (mode == GemmMode::kBF16x2) {
    for (int64_t i = D; i < padded_D; ++i) StoreAs(mode, y, i, VecF{}, 1);
    return;
  }
  const int64_t size = mode == GemmMode::kBF16 ? 2 : 4;
  memset(static_cast<char*>(y) + D * size, 0, static_cast<size_t>((padded_D - D) * size));
}

static void NormRows(const NormArgs& a) {
  char* y = static_cast<char*>(a.y);
  for (int64_t r = 0; r < a.rows; ++r, y += a.y_row_bytes) {
    NormRowAs(a.y_mode, a.x + r * a.x_stride, a.D, a.gamma, a.beta, a.eps, y);
    if (a.padded_D > a.D) ZeroPad(a.y_mode, y, a.D, a.padded_D);
  }
}

// Puts (value, id) into a descending list of at most k; an equal value stays behind those that came before.
static void Insert(const ReduceArgs& a, float value, int32_t id) {
  int64_t at = *a.filled;
  if (at < a.k) {
    ++*a.filled;
  } else {
    --at;
  }
  while (at > 0 && a.values[at - 1] < value) {
    a.values[at] = a.values[at - 1];
    a.ids[at] = a.ids[at - 1];
    --at;
  }
  a.values[at] = value;
  a.ids[at] = id;
}

// Puts into the list what this vector of logits has above the list's last value.
TING_INLINE void InsertGreater(const ReduceArgs& a, VecF v, int64_t column) {
  for (uint32_t lanes = GreaterLanes(v, Set1(a.values[a.k - 1])); lanes != 0; lanes &= lanes - 1) {
    const int64_t i = column + __builtin_ctz(lanes);
    if (a.logits[i] > a.values[a.k - 1]) Insert(a, a.logits[i], static_cast<int32_t>(a.first_column + i));
  }
}

TING_INLINE float RowMax(const float* x, int64_t n, float start) {
  VecF m[2] = {Set1(start), Set1(start)};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    m[0] = Max(m[0], Load(x + i));
    m[1] = Max(m[1], Load(x + i + kLanes));
  }
  for (; i < n; i += kLanes) m[0] = Max(m[0], LoadPartial(x + i, n - i, -__builtin_inff()));
  return ReduceMax(Max(m[0], m[1]));
}

// The maximum and the k best in one pass over the block.
static float MaxAndBest(const ReduceArgs& a) {
  int64_t i = 0;
  VecF m = Set1(*a.max);
  for (; i < a.columns && *a.filled < a.k; ++i) {
    m = Max(m, Set1(a.logits[i]));
    Insert(a, a.logits[i], static_cast<int32_t>(a.first_column + i));
  }
  for (; i + kLanes <= a.columns; i += kLanes) {
    const VecF v = Load(a.logits + i);
    m = Max(m, v);
    InsertGreater(a, v, i);
  }
  if (i < a.columns) {
    const VecF v = LoadPartial(a.logits + i, a.columns - i, -__builtin_inff());
    m = Max(m, v);
    InsertGreater(a, v, i);
  }
  return ReduceMax(m);
}

static void Reduce(const ReduceArgs& a) {
  const float max = a.k > 0 ? MaxAndBest(a) : RowMax(a.logits, a.columns, *a.max);
  if (*a.sum > 0) *a.sum *= __builtin_expf(*a.max - max);
  const VecF m = Set1(max);
  VecF s[2] = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= a.columns; i += 2 * kLanes) {
    s[0] += ExpNonPositive(Load(a.logits + i) - m);
    s[1] += ExpNonPositive(Load(a.logits + i + kLanes) - m);
  }
  for (; i < a.columns; i += kLanes) {
    s[0] += ExpNonPositive(LoadPartial(a.logits + i, a.columns - i, -__builtin_inff()) - m);
  }
  *a.sum += ReduceAdd(s[0] + s[1]);
  *a.max = max;
}

static void AddScaled(const float* a, const float* b, float scale, int64_t n, float* y) {
  const VecF s = Set1(scale);
  for (int64_t i = 0; i < n; i += kLanes) {
    StorePartial(y + i, Fma(LoadPartial(b + i, n - i), s, LoadPartial(a + i, n - i)), n - i);
  }
}
static void AddConstant(float constant, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) StorePartial(y + i, LoadPartial(y + i, n - i) + constant, n - i);
}
static void ActivateRow(Epilogue activation, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    VecF v = LoadPartial(y + i, n - i);
    if (activation == Epilogue::kRelu) v = Activate<Epilogue::kRelu>(v);
    if (activation == Epilogue::kSwish) v = Activate<Epilogue::kSwish>(v);
    if (activation == Epilogue::kGelu) v = Activate<Epilogue::kGelu>(v);
    StorePartial(y + i, v, n - i);
  }
}

// 14 independent chains: enough to hide the latency of two units.
static double Peak(int64_t iterations, [[maybe_unused]] bool bf16, float* sink) {
#if defined(__AMX_BF16__)
  if (bf16) return AmxPeak(iterations);
#endif
  constexpr int kChains = kLanes == 16 ? 14 : 10;
  VecF acc[kChains] = {};
  const VecF a = Load(sink), b = Load(sink + kLanes);
#if defined(TING_VECTOR_BF16)
  if (bf16) {
    for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < kChains; ++j) acc[j] = _mm512_dpbf16_ps(acc[j], (__m512bh)a, (__m512bh)b);
#pragma GCC unroll 16
      for (int j = 0; j < kChains; ++j) asm volatile("" : "+v"(acc[j]));
    }
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) Store(sink, Load(sink) + acc[j]);
    return static_cast<double>(iterations) * kChains * 64;
  }
#endif
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) acc[j] = Fma(a, b, acc[j]);
#if defined(__x86_64__)
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" : "+v"(acc[j]));
#endif
  }
#pragma GCC unroll 16
  for (int j = 0; j < kChains; ++j) Store(sink, Load(sink) + acc[j]);
  return static_cast<double>(iterations) * kChains * 2 * kLanes;
}

}  // namespace ting::cpu::TING_ISA
