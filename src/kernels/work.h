// src/kernels/work.h
// SPDX-License-Identifier: Apache-2.0
//
// What a node's arithmetic asks of a device at the least, as the kernels of a fully fused engine: one a product, with
// LayerNorm, bias, activation and residual in it; attention and the depthwise convolution one each. Every kernel reads
// its inputs and weights from memory once and writes its outputs once. Rooflines and achieved rates follow from this;
// what a backend really launches may be more kernels (and traffic) or fewer.
#pragma once

#include <functional>
#include <vector>

#include "kernels/kernel.h"

namespace ting {

struct KernelWork {
  const char* part = "";  // of its op: "qkv", "attention", "out"
  double flops = 0;       // 2 a multiply-add
  double bytes = 0;
  bool product = false;  // matrix products; otherwise arithmetic on rows
};

// Appends the work of one run of a node: from the true shapes and row sets of `context`, no data.
using WorkFunction = std::function<void(const KernelContext& context, std::vector<KernelWork>* work)>;

// For a node whose matrices and activations are stored in `element_bytes`. Empty for an op that is not known.
WorkFunction MakeWorkFunction(const OpDesc& desc, int element_bytes);

}  // namespace ting
