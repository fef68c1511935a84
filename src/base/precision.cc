// src/base/precision.cc
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <utility>

#include "ting/options.h"

namespace ting {
namespace {

constexpr std::array<std::pair<Precision, const char*>, 7> kNames = {{{Precision::kF32, "f32"},
                                                                      {Precision::kTF32, "tf32"},
                                                                      {Precision::kF16, "f16"},
                                                                      {Precision::kBF16, "bf16"},
                                                                      {Precision::kBF16x1, "bf16x1"},
                                                                      {Precision::kBF16x3, "bf16x3"},
                                                                      {Precision::kInt16, "int16"}}};

}  // namespace

const char* PrecisionName(Precision precision) {
  for (const auto& [known, name] : kNames) {
    if (known == precision) return name;
  }
  return "?";
}

std::optional<Precision> ParsePrecision(std::string_view name) {
  for (const auto& [precision, known] : kNames) {
    if (name == known) return precision;
  }
  return std::nullopt;
}

}  // namespace ting
