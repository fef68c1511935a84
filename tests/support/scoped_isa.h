// tests/support/scoped_isa.h
// SPDX-License-Identifier: Apache-2.0
//
// The CPU's instruction sets, one after the other.
#pragma once

#include <cstdlib>
#include <vector>

#include "kernels/cpu/isa/isa.h"

namespace ting::testing {

// While it lives, kernels are made for this instruction set (cpu::ActiveIsa).
class ScopedIsa {
 public:
  explicit ScopedIsa(const char* name) { setenv("TING_CPU_ISA", name, 1); }
  ~ScopedIsa() { unsetenv("TING_CPU_ISA"); }
};

// All that run on this machine, the best first.
inline std::vector<const char*> IsaNames() {
  std::vector<const char*> names;
  for (const auto* const* table = cpu::RunnableIsas(); *table != nullptr; ++table) names.push_back((*table)->name);
  return names;
}

}  // namespace ting::testing
