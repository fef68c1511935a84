// src/runtime/roofline.h
// SPDX-License-Identifier: Apache-2.0
//
// The roofline of a device: the least time in which it could do a step's work (kernels/work.h), if every kernel ran at
// the peak of arithmetic or of memory, whichever it meets first, and cost no less than a node of a recorded step does.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "kernels/work.h"

namespace ting {

struct Peaks {
  double product_flops = 0;  // a second, of matrix products in the type that the device computes in
  double row_flops = 0;      // a second, of everything else
  double bytes_per_s = 0;    // of its memory
  double node_s = 0;         // the least that a kernel of a recorded step takes
};

// Sums over any number of steps.
struct WorkTotal {
  double flops = 0, bytes = 0, least_s = 0;
  WorkTotal& operator+=(const WorkTotal& o) {
    flops += o.flops, bytes += o.bytes, least_s += o.least_s;
    return *this;
  }
};

double LeastSeconds(const KernelWork& work, const Peaks& peaks);
// Without peaks the least time stays 0.
WorkTotal TotalOf(std::span<const KernelWork> work, const std::optional<Peaks>& peaks);

// Peaks of an NVIDIA GPU of this name that products of `element_bytes` reach; tf32: products of rounded f32 operands.
// Nothing where no figures are known: only Hopper's are.
std::optional<Peaks> GpuPeaks(std::string_view device_name, int element_bytes, bool tf32);

}  // namespace ting
