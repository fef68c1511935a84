// src/kernels/cuda/fused_head.h
// SPDX-License-Identifier: Apache-2.0
//
// log_softmax_topk and target_logp (kernels/output_head.h) on Hopper without the logits in memory: one kernel
// multiplies, takes the sum of exponentials of every 128 columns on the chip and keeps what may be among the k best; a
// second one finishes the rows.
// Shapes      x f32 [M, K], K = 256 or 512; w [V, K] of `type`, row-major; bias [V], gamma, beta [K] f32
// Lengths     rows past range.count are neither written nor part of a result; targets past theirs neither
// Numerics    norm(x) is rounded to `type` once, every sum is f32. A target's logit is a sum of its own, over the same
//             rounded operands, in another order than in the sum of exponentials
// Order       descending log-probabilities, equal ones: lower id first. Below -2^14, where an f32 log-probability is
//             coarser than 0.001: larger logit first. Missing ones (k > V): -inf, id 2^31 - 1
// Alignment   16 bytes for every pointer
// Execution   asynchronous on stream, two launches, safe under graph capture. `dependent`: weights are read before the
//             kernel before has ended; targets and counts not before the first launch goes on
// Determinism bits of a row depend on that row alone: the order of sums is a function of V
// Reference   kernels/ref/output_head.cc
// Tests       tests/kernels/cuda/fused_head_test.cc     Bench  tests/kernels/cuda/fused_head_bench.cc
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/row_kernels.h"
#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

// Device pointers; they must outlive the FusedHead made of them.
struct FusedHeadWeights {
  DType type = DType::kF16;  // or kBF16
  int64_t V = 0, K = 0;
  const void* w = nullptr;
  const float* bias = nullptr;   // may be null, as the norm
  const float* gamma = nullptr;  // null: x is only rounded
  const float* beta = nullptr;
  float eps = 1e-5F;
  int64_t blank = -1;
};

// How the work is cut. A block has 64 * row_groups rows and one of `splits` parts of the vocabulary; `sharing`
// neighbouring row blocks receive each weight once, by multicast.
struct FusedHeadConfig {
  int row_groups = 1;  // 1 to 3; K = 512: 1
  int splits = 1;      // at least LeastSplits(V), at most the number of 128 columns
  int sharing = 1;     // 1, 2
};

// x, and what is subtracted from the blank's logit.
struct FusedHeadInput {
  const float* x = nullptr;  // row 0 of `range`
  RowRange range;
  float blank_penalty = 0;
};

// Target g asks for log-probability ids[g] of row rows[g]; rows outside the input are skipped, ids outside [0, V) get
// -inf.
struct FusedHeadTargets {
  const int32_t* rows = nullptr;
  const int32_t* ids = nullptr;
  RowRange range;
};

class FusedHead {
 public:
  static constexpr int64_t kMaxK = 32;  // of the k best

  // OK, or why another kernel must run: the shape, or the current GPU.
  static Status Supports(const FusedHeadWeights& weights);
  static FusedHeadConfig ChooseConfig(int64_t M, int64_t V, int64_t K);
  static int LeastSplits(int64_t V);
  static Result<FusedHead> Create(const FusedHeadWeights& weights);

  // Rows of one TopK, so that what is kept of them takes no more than 144 MB: 8,640 at 4,233 symbols.
  int64_t MaxTopKRows() const;
  size_t TopKBytes(int64_t M) const;  // of workspace
  size_t TargetBytes(int64_t M) const;

  // logp f32, ids s32 [M, k].
  Status TopK(const FusedHeadInput& input, int64_t k, float* logp, int32_t* ids, const FusedHeadConfig& config,
              std::byte* workspace, cudaStream_t stream, bool dependent) const;
  // logp f32, one a target.
  Status Targets(const FusedHeadInput& input, const FusedHeadTargets& targets, float* logp,
                 const FusedHeadConfig& config, std::byte* workspace, cudaStream_t stream, bool dependent) const;

 private:
  FusedHead() = default;
  FusedHeadWeights weights_;
  CUtensorMap w_map_;
};

}  // namespace ting::cuda
