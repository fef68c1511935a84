// src/kernels/params.cc
// SPDX-License-Identifier: Apache-2.0
//
// Checked access to a node's weights, the two matrix layouts, and the position table.
#include "kernels/params.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/bfloat16.h"
#include "base/status_macros.h"
#include "kernels/attribute_reader.h"

namespace ting {
namespace {

std::string Wanted(int64_t size) { return size < 0 ? "*" : std::to_string(size); }

Result<WeightView> FindWeight(const OpDesc& desc, const std::string& slot) {
  const auto it = desc.weights.find(slot);
  if (it == desc.weights.end() || !it->second.present()) {
    return InvalidArgument("node {} ({}): weight {} is missing", desc.node, desc.op, slot);
  }
  return it->second;
}

Status BadWeight(const OpDesc& desc, const std::string& slot, const WeightView& weight, const std::string& expected) {
  return InvalidArgument("node {} ({}): weight {} is {} {}{}, expected {}", desc.node, desc.op, slot,
                         DTypeName(weight.dtype), weight.shape.ToString(),
                         weight.layout == Layout::kPanel16 ? " panel16" : "", expected);
}

bool IsMatrixType(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kBF16x2 || HasFactors(dtype);
}

// Where element (n, k) lies in panel16, counted in elements; of types with two terms the high one, counted in terms.
int64_t PanelIndex(int64_t n, int64_t k, int64_t K, DType dtype) {
  const int64_t column = n % kPanelWidth, first = n / kPanelWidth * PanelDepth(dtype, K) * kPanelWidth;
  if (dtype == DType::kF32) return first + k * kPanelWidth + column;
  if (dtype == DType::kS8x2) {
    const int64_t run = kPanelRunS8x2;
    return (first + k / run * run * kPanelWidth) * 2 + k % run / 4 * 4 * kPanelWidth + column * 4 + k % 4;
  }
  const int64_t run = dtype == DType::kBF16x2 ? kPanelRun : 2, terms = dtype == DType::kBF16x2 ? 2 : 1;
  return (first + k / run * run * kPanelWidth) * terms + k % run / 2 * 2 * kPanelWidth + column * 2 + k % 2;
}

int64_t ElementIndex(int64_t n, int64_t k, int64_t K, DType dtype, Layout layout) {
  if (layout == Layout::kPanel16) return PanelIndex(n, k, K, dtype);
  return (n * K + k) * (dtype == DType::kBF16x2 || dtype == DType::kS8x2 ? 2 : 1);
}

// From the high to the low term, in terms.
int64_t LowTerm(DType dtype, Layout layout) {
  if (layout == Layout::kRowMajor) return 1;
  return (dtype == DType::kS8x2 ? kPanelRunS8x2 : kPanelRun) * kPanelWidth;
}

// The factor of output n of a matrix that has them stands at [n].
const float* FactorsOf(const void* matrix, DType dtype, const Shape& shape, Layout layout) {
  return reinterpret_cast<const float*>(static_cast<const std::byte*>(matrix) + ElementsBytes(dtype, shape, layout));
}

// The least factor at which no integer and no sum of magnitudes over a run of k exceeds what products allow. Rounding
// adds at most a half to each magnitude.
float ChooseS16Factor(const float* row, int64_t K) {
  double factor = 0;
  for (int64_t first = 0; first < K; first += kPanelRun) {
    double sum = 0;
    for (int64_t k = first; k < std::min(K, first + kPanelRun); ++k) {
      sum += std::abs(double{row[k]});
      factor = std::max(factor, std::abs(double{row[k]}) / kMostS16);
    }
    factor = std::max(factor, sum / (kMostS16RunSum - kPanelRun / 2));
  }
  return static_cast<float>(factor);
}

float ChooseS8x2Factor(const float* row, int64_t K) {
  float largest = 0;
  for (int64_t k = 0; k < K; ++k) largest = std::max(largest, std::abs(row[k]));
  return largest > 1e-30F ? largest / kMostS8x2 : 0;  // below, the quotient would be too coarse
}

// 256 * high + low.
struct S8x2 {
  int8_t high, low;
  explicit S8x2(int value) : high(static_cast<int8_t>((value + 128) >> 8)), low(static_cast<int8_t>(value)) {}
  S8x2(int8_t high, int8_t low) : high(high), low(low) {}
  int value() const { return 256 * high + low; }
};

void WriteInteger(int value, DType dtype, Layout layout, void* out, int64_t at) {
  if (dtype == DType::kS16) {
    static_cast<int16_t*>(out)[at] = static_cast<int16_t>(value);
    return;
  }
  const S8x2 terms(value);
  static_cast<int8_t*>(out)[at] = terms.high;
  static_cast<int8_t*>(out)[at + LowTerm(dtype, layout)] = terms.low;
}

void PackIntegers(const float* source, int64_t N, int64_t K, DType dtype, Layout layout, std::span<const float> given,
                  void* out) {
  auto* factors = const_cast<float*>(FactorsOf(out, dtype, {N, K}, layout));
  for (int64_t n = 0; n < N; ++n) {
    const float* row = source + n * K;
    factors[n] = !given.empty() ? given[n] : dtype == DType::kS16 ? ChooseS16Factor(row, K) : ChooseS8x2Factor(row, K);
    if (factors[n] == 0) continue;
    for (int64_t k = 0; k < K; ++k) {
      const double nearest = std::nearbyint(double{row[k]} / double{factors[n]});
      WriteInteger(static_cast<int>(nearest), dtype, layout, out, ElementIndex(n, k, K, dtype, layout));
    }
  }
}

float ReadInteger(const WeightView& weight, int64_t n, int64_t at) {
  const float factor = FactorsOf(weight.data, weight.dtype, weight.shape, weight.layout)[n];
  if (weight.dtype == DType::kS16) return static_cast<float>(weight.as<int16_t>()[at]) * factor;
  const auto* terms = weight.as<int8_t>() + at;
  return static_cast<float>(S8x2(terms[0], terms[LowTerm(weight.dtype, weight.layout)]).value()) * factor;
}

float ReadElement(const WeightView& weight, int64_t n, int64_t at) {
  if (weight.dtype == DType::kF32) return weight.as<float>()[at];
  if (HasFactors(weight.dtype)) return ReadInteger(weight, n, at);
  const auto* terms = weight.as<BFloat16>() + at;
  BFloat16x2 value;
  value.high = terms[0];
  if (weight.dtype == DType::kBF16x2) value.low = terms[LowTerm(weight.dtype, weight.layout)];
  return static_cast<float>(value);
}

void WriteElement(float value, DType dtype, Layout layout, void* out, int64_t at) {
  if (dtype == DType::kF32) {
    static_cast<float*>(out)[at] = value;
    return;
  }
  const BFloat16x2 terms(value);
  static_cast<BFloat16*>(out)[at] = terms.high;
  if (dtype == DType::kBF16x2) static_cast<BFloat16*>(out)[at + LowTerm(dtype, layout)] = terms.low;
}

}  // namespace

Result<Activation> ParseActivation(const std::string& word) {
  for (const Activation a : {Activation::kNone, Activation::kRelu, Activation::kSwish, Activation::kGelu}) {
    if (word == ActivationName(a)) return a;
  }
  return Unimplemented("activation {} is unknown; none, relu, swish and gelu are supported", word);
}

const char* ActivationName(Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return "none";
    case Activation::kRelu:
      return "relu";
    case Activation::kSwish:
      return "swish";
    case Activation::kGelu:
      return "gelu";
  }
  return "?";
}

Result<WeightView> GetVector(const OpDesc& desc, const std::string& slot, int64_t size) {
  TING_ASSIGN_OR_RETURN(const WeightView weight, FindWeight(desc, slot));
  const bool shape_ok = weight.shape.rank() == 1 && weight.shape[0] > 0 && (size < 0 || weight.shape[0] == size);
  if (!shape_ok || weight.dtype != DType::kF32 || weight.layout != Layout::kRowMajor) {
    return BadWeight(desc, slot, weight, "f32 [" + Wanted(size) + "]");
  }
  return weight;
}

Result<WeightView> GetMatrix(const OpDesc& desc, const std::string& slot, int64_t N, int64_t K) {
  TING_ASSIGN_OR_RETURN(const WeightView weight, FindWeight(desc, slot));
  const bool shape_ok = weight.shape.rank() == 2 && weight.shape[0] > 0 && weight.shape[1] > 0 &&
                        (N < 0 || weight.shape[0] == N) && (K < 0 || weight.shape[1] == K);
  if (!shape_ok || !IsMatrixType(weight.dtype)) {
    return BadWeight(desc, slot, weight, "f32, bf16, bf16x2, s16 or s8x2 [" + Wanted(N) + "," + Wanted(K) + "]");
  }
  return weight;
}

Result<LinearParams> GetLinear(const OpDesc& desc, const std::string& prefix, int64_t N, int64_t K) {
  LinearParams params;
  TING_ASSIGN_OR_RETURN(params.weight, GetMatrix(desc, prefix + ".w", N, K));
  if (desc.HasWeight(prefix + ".b")) {
    TING_ASSIGN_OR_RETURN(params.bias, GetVector(desc, prefix + ".b", params.N()));
  }
  return params;
}

Result<NormParams> GetNorm(const OpDesc& desc, const std::string& prefix, int64_t D) {
  NormParams params;
  TING_ASSIGN_OR_RETURN(params.eps, ReadNormEps(desc));
  if (!desc.HasWeight(prefix + ".gamma") && !desc.HasWeight(prefix + ".beta")) return params;
  TING_ASSIGN_OR_RETURN(params.gamma, GetVector(desc, prefix + ".gamma", D));
  TING_ASSIGN_OR_RETURN(params.beta, GetVector(desc, prefix + ".beta", params.gamma.shape[0]));
  params.present = true;
  return params;
}

std::vector<float> UnpackMatrix(const WeightView& weight) {
  TING_CHECK(weight.shape.rank() == 2, "only matrices are unpacked");
  TING_CHECK(IsMatrixType(weight.dtype), "matrices are f32, bf16, bf16x2, s16 or s8x2");
  const int64_t N = weight.shape[0], K = weight.shape[1];
  std::vector<float> out(N * K);
  if (weight.dtype == DType::kF32 && weight.layout == Layout::kRowMajor) {
    std::memcpy(out.data(), weight.data, out.size() * sizeof(float));
    return out;
  }
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t k = 0; k < K; ++k) {
      out[n * K + k] = ReadElement(weight, n, ElementIndex(n, k, K, weight.dtype, weight.layout));
    }
  }
  return out;
}

std::span<const float> MatrixFactors(const WeightView& weight) {
  if (!HasFactors(weight.dtype)) return {};
  return {FactorsOf(weight.data, weight.dtype, weight.shape, weight.layout), static_cast<size_t>(weight.shape[0])};
}

void PackMatrix(const float* source, int64_t N, int64_t K, DType dtype, Layout layout, void* out,
                std::span<const float> factors) {
  TING_CHECK(IsMatrixType(dtype), "matrices are f32, bf16, bf16x2, s16 or s8x2");
  std::memset(out, 0, WeightBytes(dtype, {N, K}, layout));  // the padding of panels is zero
  if (HasFactors(dtype)) return PackIntegers(source, N, K, dtype, layout, factors, out);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t k = 0; k < K; ++k) {
      WriteElement(source[n * K + k], dtype, layout, out, ElementIndex(n, k, K, dtype, layout));
    }
  }
}

// The steps round where PyTorch's f32 tensors round (step, frequency, angle): at position 5000 one unit in the last
// place of a frequency moves the angle by 3e-4, so a table in double would be "better" and different.
void PositionRow(int64_t position, int64_t D, float* out) {
  const float step = static_cast<float>(-(std::log(10000.0) / static_cast<double>(D)));
  for (int64_t i = 0; i < D; i += 2) {
    const float exponent = static_cast<float>(i) * step;
    const float frequency = static_cast<float>(std::exp(static_cast<double>(exponent)));
    const float angle = static_cast<float>(position) * frequency;
    out[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    if (i + 1 < D) out[i + 1] = static_cast<float>(std::cos(static_cast<double>(angle)));
  }
}

}  // namespace ting
