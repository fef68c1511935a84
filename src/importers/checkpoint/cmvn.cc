// src/importers/checkpoint/cmvn.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/cmvn.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "base/status_macros.h"
#include "importers/checkpoint/printable.h"

namespace ting {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 20;
constexpr size_t kMaxBins = 8192;
constexpr double kMinVariance = 1e-20;  // WeNet's floor, for bins that never vary
constexpr std::string_view kSpaces = " \t\r\n";

struct Sums {
  std::vector<double> sum, sum_of_squares;
  double count = 0;
};

Result<Cmvn> FromSums(const Sums& sums) {
  if (sums.sum.empty() || sums.sum.size() > kMaxBins || sums.sum.size() != sums.sum_of_squares.size()) {
    return InvalidArgument("{} sums and {} sums of squares; as many of each are needed, 1 to {}", sums.sum.size(),
                           sums.sum_of_squares.size(), kMaxBins);
  }
  if (!(sums.count > 0) || !std::isfinite(sums.count)) {
    return InvalidArgument("the number of frames is {}; it must be positive", sums.count);
  }
  Cmvn cmvn;
  for (size_t i = 0; i < sums.sum.size(); ++i) {
    const double mean = sums.sum[i] / sums.count;
    const double variance = sums.sum_of_squares[i] / sums.count - mean * mean;
    if (!std::isfinite(static_cast<float>(mean)) || !std::isfinite(variance)) {
      return InvalidArgument("bin {}: sum {} and sum of squares {} give no finite mean and variance", i, sums.sum[i],
                             sums.sum_of_squares[i]);
    }
    cmvn.mean.push_back(static_cast<float>(mean));
    cmvn.istd.push_back(static_cast<float>(1.0 / std::sqrt(std::max(variance, kMinVariance))));
  }
  return cmvn;
}

Result<std::vector<double>> ReadNumbers(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_array()) return InvalidArgument("no list {}", key);
  std::vector<double> out;
  for (const auto& value : *it) {
    if (!value.is_number()) return InvalidArgument("{} holds something other than numbers", key);
    out.push_back(value.get<double>());
  }
  return out;
}

Result<Cmvn> ParseJson(std::string_view text) {
  const auto object = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded() || !object.is_object()) return InvalidArgument("not a valid JSON object");
  Sums sums;
  TING_ASSIGN_OR_RETURN(sums.sum, ReadNumbers(object, "mean_stat"));
  TING_ASSIGN_OR_RETURN(sums.sum_of_squares, ReadNumbers(object, "var_stat"));
  const auto count = object.find("frame_num");
  if (count == object.end() || !count->is_number()) return InvalidArgument("no number frame_num");
  sums.count = count->get<double>();
  return FromSums(sums);
}

Result<Cmvn> ParseKaldiText(std::string_view text) {
  std::vector<double> numbers;
  bool closed = false;
  text.remove_prefix(1);  // "["
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
    if (text.empty()) break;
    const std::string_view word = text.substr(0, text.find_first_of(kSpaces));
    text.remove_prefix(word.size());
    if (closed) return InvalidArgument("text after the closing bracket: {}", Printable(word));
    if (word == "]") {
      closed = true;
      continue;
    }
    double value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size()) {
      return InvalidArgument("{} is not a number", Printable(word));
    }
    numbers.push_back(value);
  }
  if (!closed) return DataLoss("the closing bracket is missing: the file is truncated");
  if (numbers.size() < 4 || numbers.size() % 2 != 0 || numbers.back() != 0) {
    return InvalidArgument("{} numbers; expected [ sums… frames  sums of squares… 0 ]", numbers.size());
  }
  const auto bins = static_cast<ptrdiff_t>(numbers.size() / 2 - 1);
  return FromSums({.sum = {numbers.begin(), numbers.begin() + bins},
                   .sum_of_squares = {numbers.begin() + bins + 1, numbers.end() - 1},
                   .count = numbers[bins]});
}

}  // namespace

Result<Cmvn> ParseCmvn(std::string_view text) {
  if (text.size() > kMaxTextBytes)
    return InvalidArgument("{} bytes; a CMVN file has at most {}", text.size(), kMaxTextBytes);
  if (text.find('\0') != std::string_view::npos) {
    return Unimplemented("a binary Kaldi matrix; convert it with `copy-matrix --binary=false`");
  }
  text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
  if (text.starts_with('{')) return ParseJson(text);
  if (text.starts_with('[')) return ParseKaldiText(text);
  return InvalidArgument("neither JSON ({{…}}) nor a Kaldi text matrix ([ … ])");
}

}  // namespace ting
