// src/kernels/ref/ref_ops.h
// SPDX-License-Identifier: Apache-2.0
//
// One maker an op; ref_kernels.cc lists them.
#pragma once

#include <memory>

#include "kernels/kernel.h"

namespace ting::ref {

Result<std::unique_ptr<Kernel>> MakeAdd(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeAddPositions(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeLayerNorm(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeLinear(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeFeedForward(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeSelfAttention(const OpDesc& desc);  // and rel_attention
Result<std::unique_ptr<Kernel>> MakeTreeAttention(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeCrossAttention(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeConvModule(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeSubsampleConv2d(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeEmbed(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeLogSoftmax(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeLogSoftmaxTopk(const OpDesc& desc);
Result<std::unique_ptr<Kernel>> MakeTargetLogp(const OpDesc& desc);

}  // namespace ting::ref
