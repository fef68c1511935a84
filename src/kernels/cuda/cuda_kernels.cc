// src/kernels/cuda/cuda_kernels.cc
// SPDX-License-Identifier: Apache-2.0
//
// The list of the CUDA backend: "cuda.fused" is one kernel a node, "cuda.fused_head" keeps logits on the chip,
// "cuda.hopper" is row_gemm's products, "cuda.cublaslt" cuBLASLt's, which take everything; "cuda.conv_pair" is
// "cuda.hopper" with the convolutions on tensor cores, too.
#include "kernels/cuda/cuda_kernels.h"

#include <vector>

#include "base/status_macros.h"
#include "kernels/cuda/fused_ffn.h"
#include "kernels/cuda/fused_head.h"
#include "kernels/cuda/kernels.h"
#include "kernels/feed_forward.h"
#include "kernels/output_head.h"

namespace ting {
namespace {

using cuda::BackendOf;
using cuda::CudaBackend;
using cuda::Road;
using cuda::RowProduct;
using Output = cuda::RowProductSpec::Output;

// The form that a product's result takes, by the slot of its matrix: what RefuseHopper must know.
Output OutputOf(const OpDesc& desc, const std::string& slot) {
  if (desc.op == "conv_module" && slot == "pw1.w") return Output::kGlu;
  const bool stored = slot == "w1.w" || slot == "qkv.w" || slot == "q.w" || slot == "k.w" || slot == "v.w";
  return stored ? Output::kStored : Output::kFloat;
}

bool IsProduct(const OpDesc& desc, const std::string& slot) {
  if (slot.size() < 2 || slot.substr(slot.size() - 2) != ".w") return false;
  if (desc.op == "subsample_conv2d") return slot == "out.w";
  return slot != "pos.w" && slot != "dw.w";
}

std::optional<std::string> RefuseHopper(const OpDesc& desc) {
  for (const auto& [slot, weight] : desc.weights) {
    if (!IsProduct(desc, slot)) continue;
    LinearParams linear;
    linear.weight = weight;
    if (auto reason = RowProduct::RefuseHopper(BackendOf(desc), linear, OutputOf(desc, slot))) {
      return slot + ": " + *reason;
    }
  }
  return std::nullopt;
}

std::optional<std::string> RefuseFused(const OpDesc& desc) {
  if (auto reason = RefuseHopper(desc)) return reason;
  const auto params = ParseFeedForward(desc);
  if (!params.ok()) return params.status().message();
  cuda::FusedFfnWeights weights;
  weights.D = params->D, weights.F = params->F, weights.activation = params->activation;
  const Status status = cuda::FusedFfn::Supports(weights);
  if (status.ok()) return std::nullopt;
  return status.message();
}

std::optional<std::string> RefuseFusedHead(const OpDesc& desc) {
  if (auto reason = RefuseHopper(desc)) return reason;
  const auto params = ParseOutputHead(desc);
  if (!params.ok()) return params.status().message();
  cuda::FusedHeadWeights weights;
  weights.V = params->head.N(), weights.K = params->head.K();
  const Status status = cuda::FusedHead::Supports(weights);
  if (status.ok()) return std::nullopt;
  return status.message();
}

std::optional<std::string> RefuseConvPair(const OpDesc& desc) {
  if (auto reason = RefuseHopper(desc)) return reason;
  return cuda::RefuseSubsamplePair(desc);
}

std::optional<std::string> RefuseNothing(const OpDesc&) { return std::nullopt; }

using Create = Result<std::unique_ptr<Kernel>> (*)(const OpDesc& desc, Road road);
template <Create kCreate, Road kRoad>
Result<std::unique_ptr<Kernel>> CreateOn(const OpDesc& desc) {
  return kCreate(desc, kRoad);
}

template <Create kCreate>
void AddOp(const char* op, std::vector<KernelEntry>& list) {
  list.push_back({op, "cuda.hopper", RefuseHopper, CreateOn<kCreate, Road::kHopper>});
  list.push_back({op, "cuda.cublaslt", RefuseNothing, CreateOn<kCreate, Road::kLibrary>});
}

std::vector<KernelEntry> MakeList() {
  std::vector<KernelEntry> list;
  list.push_back({"feed_forward", "cuda.fused", RefuseFused, cuda::CreateFusedFeedForward});
  AddOp<cuda::CreateFeedForward>("feed_forward", list);
  AddOp<cuda::CreateLinear>("linear", list);
  AddOp<cuda::CreateSelfAttention>("self_attention", list);
  AddOp<cuda::CreateSelfAttention>("rel_attention", list);
  AddOp<cuda::CreateTreeAttention>("tree_attention", list);
  AddOp<cuda::CreateCrossAttention>("cross_attention", list);
  AddOp<cuda::CreateConvModule>("conv_module", list);
  list.push_back({"subsample_conv2d", "cuda.conv_pair", RefuseConvPair, cuda::CreateSubsamplePair});
  AddOp<cuda::CreateSubsampleConv2d>("subsample_conv2d", list);
  AddOp<cuda::CreateOutputHead>("log_softmax", list);
  list.push_back({"log_softmax_topk", "cuda.fused_head", RefuseFusedHead, cuda::CreateFusedOutputHead});
  AddOp<cuda::CreateOutputHead>("log_softmax_topk", list);
  list.push_back({"target_logp", "cuda.fused_head", RefuseFusedHead, cuda::CreateFusedOutputHead});
  AddOp<cuda::CreateOutputHead>("target_logp", list);
  list.push_back({"layer_norm", "cuda", RefuseNothing, cuda::CreateLayerNorm});
  list.push_back({"embed", "cuda", RefuseNothing, cuda::CreateEmbed});
  list.push_back({"add", "cuda", RefuseNothing, cuda::CreateAdd});
  list.push_back({"add_positions", "cuda", RefuseNothing, cuda::CreateAddPositions});
  return list;
}

}  // namespace

std::span<const KernelEntry> CudaKernels() {
  static const std::vector<KernelEntry> list = MakeList();
  return list;
}

}  // namespace ting
