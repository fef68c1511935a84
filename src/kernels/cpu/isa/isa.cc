// src/kernels/cpu/isa/isa.cc
// SPDX-License-Identifier: Apache-2.0
//
// Which instruction sets this program was built with, which of them this machine has, and which one is used.
#include "kernels/cpu/isa/isa.h"

#include <cstdlib>
#include <cstring>

namespace ting::cpu {

#if defined(TING_X86_ISAS)
namespace avx512bf16 {
extern const IsaTable kTable;
}
namespace avx512 {
extern const IsaTable kTable;
}
namespace avx2 {
extern const IsaTable kTable;
}
#endif
namespace baseline {
extern const IsaTable kTable;
}

namespace {

constexpr int kMaxIsas = 4;
struct IsaList {
  const IsaTable* tables[kMaxIsas + 1] = {};
};

// __builtin_cpu_supports also asks the operating system whether it saves the wide registers.
IsaList FindRunnable() {
  IsaList list;
  int count = 0;
#if defined(TING_X86_ISAS)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) list.tables[count++] = &avx512bf16::kTable;
  if (avx512) list.tables[count++] = &avx512::kTable;
  if (avx2) list.tables[count++] = &avx2::kTable;
#endif
  list.tables[count++] = &baseline::kTable;
  return list;
}

}  // namespace

const IsaTable* const* RunnableIsas() {
  static const IsaList list = FindRunnable();
  return list.tables;
}

const IsaTable* ActiveIsa(const char** problem) {
  const char* wanted = std::getenv("TING_CPU_ISA");
  const IsaTable* const* tables = RunnableIsas();
  if (wanted == nullptr || *wanted == '\0') return tables[0];
  for (; *tables != nullptr; ++tables) {
    if (std::strcmp((*tables)->name, wanted) == 0) return *tables;
  }
  *problem =
      "TING_CPU_ISA names an instruction set that this machine or build does not have; "
      "use avx512bf16, avx512, avx2 or baseline, or unset it";
  return nullptr;
}

}  // namespace ting::cpu
