// bench/kernels/onednn_gemm.h
// SPDX-License-Identifier: Apache-2.0
//
// oneDNN's matmul with weights in the layout that it prefers, one thread: the yardstick of gemm_bench.
#pragma once

#include <cstdint>
#include <functional>

namespace ting::bench {

// A function that runs c = a w + b once; a and c are f32 (bf16: a is converted beforehand, as our kernels' producers
// do it). Empty if oneDNN cannot.
std::function<void()> MakeOneDnnGemm(int64_t R, int64_t K, int64_t N, bool bf16);

}  // namespace ting::bench
