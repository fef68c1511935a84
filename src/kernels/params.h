// src/kernels/params.h
// SPDX-License-Identifier: Apache-2.0
//
// Parts that several op contracts share: activations, an optional LayerNorm, and the reading of weights
// from an OpDesc with their shapes checked.
#pragma once

#include <span>
#include <string>

#include "kernels/kernel.h"
#include "ting/status.h"

namespace ting {

enum class Activation { kNone, kRelu, kSwish, kGelu };  // gelu: the exact form, with erf

Result<Activation> ParseActivation(const std::string& word);
const char* ActivationName(Activation activation);

// LayerNorm over the last axis: (x - mean) / sqrt(var + eps) * gamma + beta, two-pass variance, f32.
struct NormParams {
  bool present = false;
  WeightView gamma, beta;  // [D] f32
  float eps = 1e-5F;
};

// A matrix with bias: y = W x + b, W [N, K] row-major or panel16, f32, bf16, bf16x2, s16 or s8x2; b [N] f32 (may be
// absent).
struct LinearParams {
  WeightView weight, bias;
  int64_t N() const { return weight.shape[0]; }
  int64_t K() const { return weight.shape[1]; }
};

// The weight in `slot`: it must exist, be f32 (or, for matrices, bf16, bf16x2, s16 or s8x2) and have `rank` axes.
Result<WeightView> GetVector(const OpDesc& desc, const std::string& slot, int64_t size);
Result<WeightView> GetMatrix(const OpDesc& desc, const std::string& slot, int64_t N, int64_t K);  // -1: any
// Slots `prefix`.w and `prefix`.b ("w1" reads w1.w and w1.b); the bias may be absent.
Result<LinearParams> GetLinear(const OpDesc& desc, const std::string& prefix, int64_t N, int64_t K);
// Slots `prefix`.gamma and `prefix`.beta, and attribute norm_eps; absent: present = false.
Result<NormParams> GetNorm(const OpDesc& desc, const std::string& prefix, int64_t D);

// Of s16 matrices: the largest magnitude of a value, and of the sum of magnitudes over a run of kPanelRun k. A product
// of such a run with values of at most 16383 fits into 32 bits. A bit more for the values would be one less for the
// weights, whose errors are the larger ones.
inline constexpr int64_t kMostS16 = 32767, kMostS16RunSum = 131071;
// Of s8x2 matrices, and of activations that meet them: the largest magnitude, 256 * 127 + 127.
inline constexpr int64_t kMostS8x2 = 32639;

// A matrix in any layout and type as row-major f32 [N, K]: for ref kernels and tests.
std::vector<float> UnpackMatrix(const WeightView& weight);
// The factors of an s16 or s8x2 matrix, [N]; empty for other types.
std::span<const float> MatrixFactors(const WeightView& weight);
// The reverse: row-major f32 [N, K] into `dtype` and `layout`; `out` has WeightBytes() bytes. `factors`, [N], keeps the
// integers of rows that were of this type before; empty: the best are chosen.
void PackMatrix(const float* source, int64_t N, int64_t K, DType dtype, Layout layout, void* out,
                std::span<const float> factors = {});

// The sinusoidal position table: out[2i] = sin(position * 10000^(-2i/D)), out[2i+1] = cos(same), computed as
// PyTorch WeNet does (f32 angle). Any position >= 0; there is no table limit.
void PositionRow(int64_t position, int64_t D, float* out);

}  // namespace ting
