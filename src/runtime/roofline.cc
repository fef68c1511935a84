// src/runtime/roofline.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/roofline.h"

#include <algorithm>

namespace ting {
namespace {

// What large dense products and copies reach on an H200 (nominal: 989 TFLOP/s and 4.8 TB/s; on an H100 3.35 TB/s, of
// which the same share is taken). f32 runs on the CUDA cores, nominally 67 TFLOP/s.
constexpr double kHopperProductFlops = 790e12;
constexpr double kHopperRowFlops = 60e12;
constexpr double kH200BytesPerSecond = 4.3e12;
constexpr double kH100BytesPerSecond = 3.0e12;
constexpr double kGraphNodeSeconds = 1e-6;

}  // namespace

double LeastSeconds(const KernelWork& work, const Peaks& peaks) {
  const double arithmetic = work.flops / (work.product ? peaks.product_flops : peaks.row_flops);
  return std::max({arithmetic, work.bytes / peaks.bytes_per_s, peaks.node_s});
}

WorkTotal TotalOf(std::span<const KernelWork> work, const std::optional<Peaks>& peaks) {
  WorkTotal total;
  for (const KernelWork& kernel : work) {
    total += {kernel.flops, kernel.bytes, peaks ? LeastSeconds(kernel, *peaks) : 0};
  }
  return total;
}

std::optional<Peaks> GpuPeaks(std::string_view device_name, int element_bytes, bool tf32) {
  const bool h200 = device_name.find("H200") != std::string_view::npos;
  if (!h200 && device_name.find("H100") == std::string_view::npos) return std::nullopt;
  Peaks peaks{kHopperProductFlops, kHopperRowFlops, h200 ? kH200BytesPerSecond : kH100BytesPerSecond,
              kGraphNodeSeconds};
  if (element_bytes == 4) peaks.product_flops = tf32 ? kHopperProductFlops / 2 : kHopperRowFlops;
  return peaks;
}

}  // namespace ting
