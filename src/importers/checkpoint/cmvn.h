// src/importers/checkpoint/cmvn.h
// SPDX-License-Identifier: Apache-2.0
//
// Global mean and variance normalisation, x' = (x - mean) * istd, from a file of sums over the training set:
//   JSON        {"mean_stat": [sums], "var_stat": [sums of squares], "frame_num": n}
//   Kaldi text  [ sums… n  sums of squares… 0 ]
// mean = sum / n, istd = 1 / sqrt(max(sumsq / n - mean², 1e-20)), in f64, as WeNet does. The form is recognised by
// its first character; binary Kaldi matrices are refused. Bytes trusted: none.
#pragma once

#include <string_view>
#include <vector>

#include "ting/status.h"

namespace ting {

struct Cmvn {
  std::vector<float> mean, istd;  // [F] each
};

Result<Cmvn> ParseCmvn(std::string_view text);

}  // namespace ting
