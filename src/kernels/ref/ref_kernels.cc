// src/kernels/ref/ref_kernels.cc
// SPDX-License-Identifier: Apache-2.0
//
// The list of the reference backend. It refuses nothing in advance: what a node gets wrong, its parser says.
#include "kernels/ref/ref_kernels.h"

#include "kernels/ref/ref_ops.h"

namespace ting {
namespace {

std::optional<std::string> NeverRefuse(const OpDesc&) { return std::nullopt; }

constexpr KernelEntry kEntries[] = {
    {"add", "ref", NeverRefuse, ref::MakeAdd},
    {"add_positions", "ref", NeverRefuse, ref::MakeAddPositions},
    {"layer_norm", "ref", NeverRefuse, ref::MakeLayerNorm},
    {"linear", "ref", NeverRefuse, ref::MakeLinear},
    {"feed_forward", "ref", NeverRefuse, ref::MakeFeedForward},
    {"self_attention", "ref", NeverRefuse, ref::MakeSelfAttention},
    {"rel_attention", "ref", NeverRefuse, ref::MakeSelfAttention},
    {"tree_attention", "ref", NeverRefuse, ref::MakeTreeAttention},
    {"cross_attention", "ref", NeverRefuse, ref::MakeCrossAttention},
    {"conv_module", "ref", NeverRefuse, ref::MakeConvModule},
    {"subsample_conv2d", "ref", NeverRefuse, ref::MakeSubsampleConv2d},
    {"embed", "ref", NeverRefuse, ref::MakeEmbed},
    {"log_softmax", "ref", NeverRefuse, ref::MakeLogSoftmax},
    {"log_softmax_topk", "ref", NeverRefuse, ref::MakeLogSoftmaxTopk},
    {"target_logp", "ref", NeverRefuse, ref::MakeTargetLogp},
};

}  // namespace

std::span<const KernelEntry> RefKernels() { return kEntries; }

}  // namespace ting
