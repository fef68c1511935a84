// src/kernels/cpu/isa/conv.inc.h
// SPDX-License-Identifier: Apache-2.0
//
// The two convolutions that are no matrix products: the depthwise one of the conv module and the first one of the
// subsampling (one input channel). Both run over channels, which are contiguous.
#pragma once

#include "kernels/cpu/isa/rows.inc.h"

namespace ting::cpu::TING_ISA {

// One vector of channels of kRows successive rows: each tap's weight is loaded once for all of them.
template <int kRows>
TING_INLINE void DepthwiseVector(const DepthwiseArgs& a, const float* const* rows, int64_t d, float* y,
                                 int64_t y_stride) {
  const int64_t n = a.D - d;
  VecF acc[kRows];
  const VecF bias = LoadPartial(a.bias + d, n);
  for (int r = 0; r < kRows; ++r) acc[r] = bias;
  for (int k = 0; k < a.taps; ++k) {
    const VecF w = LoadPartial(a.w + k * a.D + d, n);
    for (int r = 0; r < kRows; ++r) acc[r] = Fma(w, LoadPartial(rows[k + r] + d, n), acc[r]);
  }
  for (int r = 0; r < kRows; ++r) StorePartial(y + r * y_stride + d, acc[r], n);
}

inline constexpr int kDepthwiseRows = 4, kMaxTaps = 252;

TING_INLINE void DepthwiseFinish(const DepthwiseArgs& a, float* c, char* y) {
  if (a.gamma != nullptr) NormRow<GemmMode::kF32>(c, a.D, a.gamma, a.beta, a.eps, c);
  if (a.activation == Epilogue::kSwish) {
    for (int64_t d = 0; d < a.D; d += kLanes) {
      const VecF v = LoadPartial(c + d, a.D - d);
      const bool coarse = a.y_mode == GemmMode::kBF16;
      StoreAs(a.y_mode, y, d, coarse ? Activate<Epilogue::kSwish, true>(v) : Activate<Epilogue::kSwish>(v), a.D - d);
    }
  } else {
    ActivateRow(a.activation, a.D, c);
    NormRowAs(a.y_mode, c, a.D, nullptr, nullptr, 0, y);
  }
  if (a.padded_D > a.D) ZeroPad(a.y_mode, y, a.D, a.padded_D);
}

// scratch: kDepthwiseRows rows of D for results, then one of zeros.
static void Depthwise(const DepthwiseArgs& a) {
  float* const zeros = a.scratch + kDepthwiseRows * a.D;
  memset(zeros, 0, static_cast<size_t>(a.D) * sizeof(float));
  const float* const before = a.before != nullptr ? a.before : zeros;
  const float* rows[kMaxTaps + kDepthwiseRows];
  char* y = static_cast<char*>(a.y);
  for (int64_t t = a.first; t < a.last; t += kDepthwiseRows) {
    const int64_t count = a.last - t < kDepthwiseRows ? a.last - t : kDepthwiseRows;
    for (int64_t i = 0; i < a.taps + count - 1; ++i) {
      const int64_t source = t + i - a.left;
      rows[i] = source < 0 ? before : source >= a.T ? zeros : a.g + source * a.g_stride;
    }
    for (int64_t d = 0; d < a.D; d += kLanes) {
      if (count == kDepthwiseRows) {
        DepthwiseVector<kDepthwiseRows>(a, rows, d, a.scratch, a.D);
      } else {
        for (int64_t r = 0; r < count; ++r) DepthwiseVector<1>(a, rows + r, d, a.scratch + r * a.D, a.D);
      }
    }
    for (int64_t r = 0; r < count; ++r, y += a.y_row_bytes) DepthwiseFinish(a, a.scratch + r * a.D, y);
  }
}

// All channels of kPixels neighbouring output pixels, so that each weight is loaded once for them; x holds `kernel`
// frames, one after the other, the first value that the first pixel sees.
template <int kKernel, int kPixels>
TING_INLINE void FirstConvPixels(const FirstConvArgs& a, const float* x, char* y) {
  const int kernel = kKernel > 0 ? kKernel : a.kernel;
  for (int64_t c = 0; c < a.C; c += kLanes) {
    VecF acc[kPixels];
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) acc[p] = Load(a.bias + c);
    const float* w = a.w + c;
#pragma GCC unroll 3
    for (int i = 0; i < kernel; ++i) {
#pragma GCC unroll 3
      for (int j = 0; j < kernel; ++j, w += a.padded_C) {
        const VecF weight = Load(w);
#pragma GCC unroll 8
        for (int p = 0; p < kPixels; ++p) acc[p] = Fma(Set1(x[i * a.num_mel + p * a.stride + j]), weight, acc[p]);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
      StoreAs(a.y_mode, y + p * a.y_pixel_bytes, c, Max(VecF{}, acc[p]), a.C - c);
    }
  }
}
#if defined(TING_S16)
// Pixels in f32, then in runs or blocks.
template <int kKernel>
[[gnu::noinline]] static void FirstConvFrameIntegers(const FirstConvArgs& a, const float* x, char* y) {
  FirstConvArgs plain = a;
  plain.y_mode = GemmMode::kF32, plain.y_pixel_bytes = a.padded_C * 4;
  float* const pixels = a.scratch + a.kernel * a.num_mel;
  for (int64_t f = 0; f < a.frequencies; f += 4) {
    const int64_t count = a.frequencies - f < 4 ? a.frequencies - f : 4;
    char* const c = reinterpret_cast<char*>(pixels);
    if (count == 4) {
      FirstConvPixels<kKernel, 4>(plain, x + f * a.stride, c);
    } else {
      for (int64_t p = 0; p < count; ++p) {
        FirstConvPixels<kKernel, 1>(plain, x + (f + p) * a.stride, c + p * plain.y_pixel_bytes);
      }
    }
    for (int64_t p = 0; p < count; ++p) {
      NormRowAs(a.y_mode, pixels + p * a.padded_C, a.C, nullptr, nullptr, 0, y + (f + p) * a.y_pixel_bytes);
    }
  }
}
#endif

template <int kKernel>
TING_INLINE void FirstConvFrame(const FirstConvArgs& a, const float* x, char* y) {
#if defined(TING_S16)
  const bool integers = a.y_mode == GemmMode::kS16 || a.y_mode == GemmMode::kS8x2;
  if (integers) return FirstConvFrameIntegers<kKernel>(a, x, y);
#endif
  int64_t f = 0;
  for (; f + 4 <= a.frequencies; f += 4) FirstConvPixels<kKernel, 4>(a, x + f * a.stride, y + f * a.y_pixel_bytes);
  for (; f < a.frequencies; ++f) FirstConvPixels<kKernel, 1>(a, x + f * a.stride, y + f * a.y_pixel_bytes);
}

static void FirstConv(const FirstConvArgs& a) {
  for (int64_t t = 0; t < a.frames; ++t) {
    const float* x = a.x + (a.first + t) * a.stride * a.num_mel;
    if (a.mean != nullptr) {
      for (int64_t i = 0; i < a.kernel; ++i) {
        for (int64_t m = 0; m < a.num_mel; m += kLanes) {
          const int64_t n = a.num_mel - m;
          const VecF v =
              (LoadPartial(x + i * a.num_mel + m, n) - LoadPartial(a.mean + m, n)) * LoadPartial(a.istd + m, n);
          StorePartial(a.scratch + i * a.num_mel + m, v, n);
        }
      }
      x = a.scratch;
    }
    char* y = static_cast<char*>(a.y) + t * a.y_frame_bytes;
    if (a.kernel == 3) {
      FirstConvFrame<3>(a, x, y);
    } else {
      FirstConvFrame<0>(a, x, y);
    }
  }
}

}  // namespace ting::cpu::TING_ISA
