// tests/kernels/cpu_cases.h
// SPDX-License-Identifier: Apache-2.0
//
// Calls that are awkward for the CPU backend's tiles: widths that are no multiple of a vector, row counts around
// its row blocks (13 to 17, 33) and tiles (56), sequences that end inside a tile, vocabularies with a lone last panel.
#pragma once

#include <string>
#include <vector>

#include "tests/kernels/kernel_testing.h"

namespace ting::testing {

struct CpuCase {
  std::string name;
  TestOp op;
  OpCall call;
};

std::vector<CpuCase> LinearCases();
std::vector<CpuCase> FeedForwardCases();
std::vector<CpuCase> AttentionCases();
std::vector<CpuCase> TreeAttentionCases();
std::vector<CpuCase> CrossAttentionCases();
std::vector<CpuCase> ConvModuleCases();
std::vector<CpuCase> SubsampleCases();
std::vector<CpuCase> HeadCases();
std::vector<CpuCase> ElementwiseCases();
std::vector<CpuCase> AllCpuCases();

}  // namespace ting::testing
