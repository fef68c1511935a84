// src/kernels/cpu/isa/isa.cc
// SPDX-License-Identifier: Apache-2.0
//
// Which instruction sets this program was built with, which of them this machine has, and which one is used.
#include "kernels/cpu/isa/isa.h"

#include <cstdlib>
#include <cstring>

#if defined(TING_X86_ISAS)
#include <cpuid.h>
#endif

#if defined(TING_X86_ISAS) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ting::cpu {

#if defined(TING_X86_ISAS)
namespace amx {
extern const IsaTable kTable;
}
namespace avx512bf16 {
extern const IsaTable kTable;
}
namespace avx512vnni {
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

constexpr int kMaxIsas = 6;
struct IsaList {
  const IsaTable* tables[kMaxIsas + 1] = {};
};

#if defined(TING_X86_ISAS)
// Linux saves the tile registers, 8 KB a thread, only for processes that asked (since 5.16); the answer holds for all
// threads. __builtin_cpu_supports has seen what the system offers, not what it grants.
bool TilesGranted() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

#if defined(TING_X86_ISAS)
// Leaf 7: bit 24 of edx is AMX-TILE, bit 22 AMX-BF16, bit 25 AMX-INT8. By hand, because clang 14's
// __builtin_cpu_supports knows neither.
bool HasAmx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  return (edx >> 24 & 1) != 0 && (edx >> 22 & 1) != 0 && (edx >> 25 & 1) != 0;
}
#endif

// __builtin_cpu_supports also asks the operating system whether it saves the wide registers.
IsaList FindRunnable() {
  IsaList list;
  int count = 0;
#if defined(TING_X86_ISAS)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool avx512vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  const bool avx512bf16 = avx512vnni && __builtin_cpu_supports("avx512bf16");
  const bool amx = avx512bf16 && __builtin_cpu_supports("avx512vbmi") && HasAmx();
  if (amx && TilesGranted()) list.tables[count++] = &amx::kTable;
  if (avx512bf16) list.tables[count++] = &avx512bf16::kTable;
  if (avx512vnni) list.tables[count++] = &avx512vnni::kTable;
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
      "use amx, avx512bf16, avx512vnni, avx512, avx2 or baseline, or unset it";
  return nullptr;
}

}  // namespace ting::cpu
