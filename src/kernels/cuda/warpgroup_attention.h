// src/kernels/cuda/warpgroup_attention.h
// SPDX-License-Identifier: Apache-2.0
//
// The Hopper kernel of self and cross attention for heads of 64 columns (warpgroup_attention.cu).
#pragma once

#include "kernels/cuda/ragged_attention.h"

namespace ting::cuda {

// Whether the current device and the heads' width suit it; no size matters, so that equal rows have equal bits.
bool SupportsWarpgroupAttention(const RaggedAttention& problem);
Status LaunchWarpgroupAttention(DType dtype, const RaggedAttention& problem, bool dependent, cudaStream_t stream);

}  // namespace ting::cuda
