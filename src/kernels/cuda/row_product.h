// src/kernels/cuda/row_product.h
// SPDX-License-Identifier: Apache-2.0
//
// RowProduct: one linear layer with what stands before and after it, as the ops are made of:
//   y = epilogue(W prologue(x) + b).
// Two roads: row_gemm's one kernel on Hopper, or cuBLASLt's product between kernels of row_kernels.h, for every type,
// shape and GPU. Which one is decided when the node is created, so that a node's name in a profile says what runs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "kernels/carver.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/row_gemm.h"
#include "kernels/cuda/row_kernels.h"
#include "kernels/kernel.h"
#include "kernels/params.h"
#include "ting/status.h"

namespace ting::cuda {

enum class Road { kHopper, kLibrary };

struct RowProductSpec {
  enum class Output {
    kStored,  // storage type: activation(W h + b)
    kGlu,     // storage type [R, N / 2]: a * sigmoid(b)
    kFloat,   // f32: post([residual +] scale * (W h + b))
  };
  LinearParams linear;
  bool x_stored = false;  // x is of the storage type; otherwise f32
  NormParams norm;        // of an f32 x
  Output output = Output::kFloat;
  Activation activation = Activation::kNone;  // of kStored
  float scale = 1;                            // of kFloat
  bool alone = false;                         // of kFloat: there is never a residual
  NormParams post;
  bool starts_next = false;  // a feed-forward comes next (row_gemm.h)
  std::string key;           // names the weight where `linear` is a temporary copy; empty: its address does
};

class RowProduct {
 public:
  static Result<RowProduct> Create(CudaBackend& backend, const RowProductSpec& spec, Road road);
  // Why the road on Hopper cannot take the product, or nothing.
  static std::optional<std::string> RefuseHopper(const CudaBackend& backend, const LinearParams& linear,
                                                 RowProductSpec::Output output);

  int64_t N() const { return matrix_.N; }
  int64_t K() const { return matrix_.K; }
  // y's rows are N values (kGlu: N / 2). residual: f32 like y or null. With a null workspace in `carver` nothing runs.
  // scatter: only if CanScatter.
  Status Run(const KernelContext& context, const void* x, const float* residual, void* y, RowRange range,
             Carver& carver, const RowGemmScatter& scatter = {}) const;
  // Whether the product can bring its columns from first_column on elsewhere (RowGemmScatter).
  bool CanScatter(int64_t first_column) const;

 private:
  RowProduct(CudaBackend& backend, const RowProductSpec& spec, Road road)
      : backend_(&backend),
        road_(road),
        x_stored_(spec.x_stored),
        output_(spec.output),
        activation_(spec.activation),
        scale_(spec.scale),
        starts_next_(spec.starts_next) {}
  void AddTunable();  // tells the tuner of the product
  // Whether long_product takes steps of many rows. Not in batch-invariant mode, as its sums depend on their number.
  bool IsLong(const RowProductSpec& spec) const;
  // row_gemm's arguments that are the same in every step.
  RowGemmArguments HopperArguments() const;
  // Whether row_gemm reads f32 rows itself.
  bool ReadsFloats() const { return !x_stored_ && (matrix_.K == 256 || matrix_.K == 512); }
  Status RunHopper(const KernelContext& context, const void* x, const float* residual, void* y, RowRange range,
                   Carver& carver, const RowGemmScatter& scatter) const;
  Status RunLibrary(const KernelContext& context, const void* x, const float* residual, void* y, RowRange range,
                    Carver& carver) const;
  // x as a product reads it: normalised, in the storage type. Takes its memory from `carver` where it is not x itself.
  Result<const void*> Stored(const KernelContext& context, const void* x, RowRange range, Carver& carver) const;

  CudaBackend* backend_;
  Road road_;
  bool x_stored_;
  RowProductSpec::Output output_;
  Activation activation_;
  float scale_;
  bool starts_next_;
  DeviceMatrix matrix_;
  DeviceNorm norm_, post_;
  TuningProduct tuning_;
  bool long_ = false;
};

// The rows of a node's first input.
inline RowRange RangeOf(const KernelContext& context, size_t input = 0) {
  const int32_t* count = input < context.device_rows.size() ? context.device_rows[input].count : nullptr;
  return {context.inputs[input].rows(), count, 0};
}

}  // namespace ting::cuda
