// src/kernels/cuda/tunable.h
// SPDX-License-Identifier: Apache-2.0
//
// Between the kernels that have choices and the tuner that measures them: a Tunable runs one product of the model in
// any configuration, on memory that the tuner gives.
#pragma once

#include <cuda_runtime_api.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/tuning.h"
#include "ting/status.h"

namespace ting::cuda {

// Rows are padded to up to eight sizes between powers of two, at least `least` apart: few recordings of steps and few
// tuning records serve all, and at most 1/8 of the work is padding.
inline int64_t PadSize(int64_t size, int64_t least) {
  if (size <= least) return least;
  const auto below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(size - 1)));
  const int64_t step = below / 8 > least ? below / 8 : least;
  return (size + step - 1) / step * step;
}
// And to those rows that tiles of 32, 40, 64 and 80 on 132 multiprocessors, one or two a tile, hold at once: of more, a
// feed-forward takes half as long again.
inline constexpr int64_t kFullRows[] = {66 * 32, 66 * 40, 132 * 64, 132 * 80};
inline int64_t PadRows(int64_t rows) {
  const int64_t padded = PadSize(rows, 32);
  for (const int64_t full : kFullRows) {
    if (rows <= full && full < padded) return full;
  }
  return padded;
}

struct TuningCall {
  int64_t rows = 0;
  const void* weights = nullptr;    // WeightBytes
  const void* x = nullptr;          // InputBytes
  void* y = nullptr;                // OutputBytes
  const float* residual = nullptr;  // OutputBytes
  void* lt_workspace = nullptr;
  bool dependent = false;  // programmatic dependent launch
  cudaStream_t stream = nullptr;
};

class Tunable {
 public:
  virtual ~Tunable() = default;
  virtual size_t WeightBytes() const = 0;
  virtual size_t InputBytes(int64_t rows) const = 0;
  virtual size_t OutputBytes(int64_t rows) const = 0;
  // Every configuration that can run, and whose results may replace those of the kernel's own choice.
  virtual std::vector<TuningConfig> Candidates(int64_t rows) const = 0;
  // Queues the product once. An empty configuration is the kernel's own choice.
  virtual Status Run(const TuningConfig& config, const TuningCall& call) const = 0;
};

}  // namespace ting::cuda
