// src/kernels/cpu/cpu_kernels.cc
// SPDX-License-Identifier: Apache-2.0
//
// The list of the CPU backend. Each op has two entries of one implementation: the first wants weights of a type
// that this machine multiplies directly; the second takes bf16, bf16x2, s16 and s8x2 weights everywhere, by expanding
// them to f32 at load (more memory, no gain in speed), and its name says so in profiles.
#include "kernels/cpu/cpu_kernels.h"

#include <vector>

#include "base/status_macros.h"
#include "kernels/cpu/kernels.h"

namespace ting {
namespace {

using cpu::IsaTable;
using Create = Result<std::unique_ptr<Kernel>> (*)(const OpDesc& desc, const IsaTable& isa);

// What ActiveIsa answers now: TING_CPU_ISA may change between two models.
std::optional<std::string> RefuseIsa() {
  const char* problem = "";
  if (cpu::ActiveIsa(&problem) == nullptr) return std::string(problem);
  return std::nullopt;
}
std::optional<std::string> RefuseDirect(const OpDesc& desc) {
  if (auto reason = RefuseIsa()) return reason;
  const char* problem = "";
  const IsaTable& isa = *cpu::ActiveIsa(&problem);
  for (const auto& [slot, weight] : desc.weights) {
    const bool expanded = (weight.dtype == DType::kBF16 && !isa.bf16_products) ||
                          (weight.dtype == DType::kBF16x2 && !isa.bf16_tiles) ||
                          (HasFactors(weight.dtype) && !isa.s16_products);
    if (!expanded || desc.op == "embed") continue;
    return "weight " + slot + " is " + std::string(DTypeName(weight.dtype)) + ", which " + isa.name +
           " does not multiply; an f32 engine is as fast here";
  }
  return std::nullopt;
}
std::optional<std::string> RefuseNothingElse(const OpDesc&) { return RefuseIsa(); }

template <Create kCreate>
Result<std::unique_ptr<Kernel>> CreateActive(const OpDesc& desc) {
  const char* problem = "";
  const IsaTable* isa = cpu::ActiveIsa(&problem);
  if (isa == nullptr) return FailedPrecondition("{}", problem);
  return kCreate(desc, *isa);
}

struct Names {
  const char *isa, *direct, *expanded;
};
constexpr Names kNames[] = {{"amx", "cpu.amx", "cpu.amx.expanded"},
                            {"avx512bf16", "cpu.avx512bf16", "cpu.avx512bf16.expanded"},
                            {"avx512vnni", "cpu.avx512vnni", "cpu.avx512vnni.expanded"},
                            {"avx512", "cpu.avx512", "cpu.avx512.expanded"},
                            {"avx2", "cpu.avx2", "cpu.avx2.expanded"},
                            {"baseline", "cpu.baseline", "cpu.baseline.expanded"}};

template <Create kCreate>
void AddOp(const char* op, const Names& names, std::vector<KernelEntry>& list) {
  list.push_back({op, names.direct, RefuseDirect, CreateActive<kCreate>});
  list.push_back({op, names.expanded, RefuseNothingElse, CreateActive<kCreate>});
}

std::vector<KernelEntry> MakeList(const Names& names) {
  std::vector<KernelEntry> list;
  AddOp<cpu::CreateLinear>("linear", names, list);
  AddOp<cpu::CreateFeedForward>("feed_forward", names, list);
  AddOp<cpu::CreateSelfAttention>("self_attention", names, list);
  AddOp<cpu::CreateSelfAttention>("rel_attention", names, list);
  AddOp<cpu::CreateTreeAttention>("tree_attention", names, list);
  AddOp<cpu::CreateCrossAttention>("cross_attention", names, list);
  AddOp<cpu::CreateConvModule>("conv_module", names, list);
  AddOp<cpu::CreateSubsampleConv2d>("subsample_conv2d", names, list);
  AddOp<cpu::CreateLogSoftmax>("log_softmax", names, list);
  AddOp<cpu::CreateLogSoftmaxTopK>("log_softmax_topk", names, list);
  AddOp<cpu::CreateTargetLogp>("target_logp", names, list);
  AddOp<cpu::CreateLayerNorm>("layer_norm", names, list);
  AddOp<cpu::CreateEmbed>("embed", names, list);
  AddOp<cpu::CreateAdd>("add", names, list);
  AddOp<cpu::CreateAddPositions>("add_positions", names, list);
  return list;
}

}  // namespace

std::span<const KernelEntry> CpuKernels() {
  static const std::vector<KernelEntry> lists[] = {MakeList(kNames[0]), MakeList(kNames[1]), MakeList(kNames[2]),
                                                   MakeList(kNames[3]), MakeList(kNames[4]), MakeList(kNames[5])};
  const char* problem = "";
  const IsaTable* isa = cpu::ActiveIsa(&problem);
  for (size_t i = 0; isa != nullptr && i < std::size(kNames); ++i) {
    if (std::string_view(kNames[i].isa) == isa->name) return lists[i];
  }
  return lists[std::size(kNames) - 1];  // the variable names nothing usable: each entry refuses and says so
}

DType Int16MatrixType() {
  const char* problem = "";
  const IsaTable* isa = cpu::ActiveIsa(&problem);
  return isa != nullptr && isa->s8x2_tiles ? DType::kS8x2 : DType::kS16;
}

}  // namespace ting
