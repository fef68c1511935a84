// src/kernels/cuda/kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// The constructors of the CUDA kernels, for the list in cuda_kernels.cc, and what their classes share.
#pragma once

#include <memory>

#include "kernels/cuda/row_product.h"
#include "kernels/kernel.h"

namespace ting::cuda {

// A kernel whose one function Step both lays out the workspace (context.workspace is null: nothing runs) and runs.
class CudaKernel : public Kernel {
 public:
  size_t WorkspaceBytes(const KernelContext& context) const override {
    KernelContext dry = context;
    dry.workspace = nullptr;
    Carver carver(nullptr);
    // A failure to lay out is the failure of Run, which says why.
    (void)const_cast<CudaKernel*>(this)->Step(dry, carver).ok();
    return carver.used();
  }
  Status Run(const KernelContext& context) override {
    Carver carver(context.workspace);
    return Step(context, carver);
  }

 protected:
  virtual Status Step(const KernelContext& context, Carver& carver) = 0;
};

Result<std::unique_ptr<Kernel>> CreateLinear(const OpDesc& desc, Road road);
Result<std::unique_ptr<Kernel>> CreateFeedForward(const OpDesc& desc, Road road);
Result<std::unique_ptr<Kernel>> CreateFusedFeedForward(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> CreateSelfAttention(const OpDesc& desc, Road road);  // self_attention, rel_attention
Result<std::unique_ptr<Kernel>> CreateTreeAttention(const OpDesc& desc, Road road);
Result<std::unique_ptr<Kernel>> CreateCrossAttention(const OpDesc& desc, Road road);
Result<std::unique_ptr<Kernel>> CreateConvModule(const OpDesc& desc, Road road);
Result<std::unique_ptr<Kernel>> CreateSubsampleConv2d(const OpDesc& desc, Road road);
Result<std::unique_ptr<Kernel>> CreateSubsamplePair(const OpDesc& desc);
// Why ConvPair cannot take the node's convolutions, or nothing.
std::optional<std::string> RefuseSubsamplePair(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> CreateOutputHead(const OpDesc& desc, Road road);  // the three ways to read it
Result<std::unique_ptr<Kernel>> CreateFusedOutputHead(const OpDesc& desc);        // log_softmax_topk, target_logp
Result<std::unique_ptr<Kernel>> CreateLayerNorm(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> CreateEmbed(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> CreateAdd(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> CreateAddPositions(const OpDesc& desc);

}  // namespace ting::cuda
