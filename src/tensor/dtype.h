// src/tensor/dtype.h
// SPDX-License-Identifier: Apache-2.0
//
// Element types of tensors and their names in the graph's text form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ting {

// kBF16x2: a number as the sum of two bf16, the nearest bf16 and what that leaves: 16 bits of mantissa or more.
// kS16 and kS8x2, of matrices [N, K]: integers of 16 bits, with an f32 factor for each of the N outputs behind them;
// kS8x2 as 256 * high + low, two signed integers of 8 bits, so at most kMostS8x2.
enum class DType : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kBF16 = 2,
  kS8 = 3,
  kS32 = 4,
  kS64 = 5,
  kF64 = 6,
  kU8 = 7,
  kBF16x2 = 8,
  kS16 = 9,
  kS8x2 = 10,
};

inline constexpr size_t DTypeSize(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kS32:
    case DType::kBF16x2:
      return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kS16:
    case DType::kS8x2:
      return 2;
    case DType::kS8:
    case DType::kU8:
      return 1;
    case DType::kS64:
    case DType::kF64:
      return 8;
  }
  return 0;
}

inline constexpr std::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
    case DType::kS8:
      return "s8";
    case DType::kS32:
      return "s32";
    case DType::kS64:
      return "s64";
    case DType::kF64:
      return "f64";
    case DType::kU8:
      return "u8";
    case DType::kBF16x2:
      return "bf16x2";
    case DType::kS16:
      return "s16";
    case DType::kS8x2:
      return "s8x2";
  }
  return "?";
}

inline std::optional<DType> DTypeFromName(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(DType::kS8x2); ++i) {
    if (DTypeName(static_cast<DType>(i)) == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

}  // namespace ting
