// tests/fuzz/cmvn_fuzz.cc
// SPDX-License-Identifier: Apache-2.0
//
// CMVN files, JSON and Kaldi text: accepted ones have as many finite means as finite, positive deviations.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "importers/checkpoint/cmvn.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto cmvn = ting::ParseCmvn({reinterpret_cast<const char*>(data), size});
  if (!cmvn.ok()) return 0;
  if (cmvn->mean.empty() || cmvn->mean.size() != cmvn->istd.size()) std::abort();
  for (size_t i = 0; i < cmvn->mean.size(); ++i) {
    if (!std::isfinite(cmvn->mean[i]) || !std::isfinite(cmvn->istd[i]) || cmvn->istd[i] < 0) std::abort();
  }
  return 0;
}
