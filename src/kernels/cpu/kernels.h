// src/kernels/cpu/kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// One constructor an op; cpu_kernels.cc puts them into the backend's list.
#pragma once

#include <memory>

#include "kernels/cpu/isa/isa.h"
#include "kernels/kernel.h"

namespace ting::cpu {

Result<std::unique_ptr<Kernel>> CreateLinear(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateFeedForward(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateSelfAttention(const OpDesc& desc, const IsaTable& isa);  // and rel_attention
Result<std::unique_ptr<Kernel>> CreateTreeAttention(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateCrossAttention(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateConvModule(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateSubsampleConv2d(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateLogSoftmax(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateLogSoftmaxTopK(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateTargetLogp(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateLayerNorm(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateEmbed(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateAdd(const OpDesc& desc, const IsaTable& isa);
Result<std::unique_ptr<Kernel>> CreateAddPositions(const OpDesc& desc, const IsaTable& isa);

}  // namespace ting::cpu
