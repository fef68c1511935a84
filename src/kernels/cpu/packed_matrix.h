// src/kernels/cpu/packed_matrix.h
// SPDX-License-Identifier: Apache-2.0
//
// A weight matrix as the CPU's products read it: panel16, in the type of the product, with a bias padded to whole
// panels. Panels that the engine file already holds are used where they lie (mmap); only row-major weights and
// those that must be rearranged or expanded are copied.
#pragma once

#include <span>

#include "base/aligned_buffer.h"
#include "kernels/cpu/isa/isa.h"
#include "kernels/params.h"

namespace ting::cpu {

// Bytes between scratch rows of K values: whole cache lines plus one, so that rows of 1024 or 2048 values do not
// all fall into the same sets of the first-level cache.
int64_t ScratchRowBytes(GemmMode mode, int64_t K);
inline bool IsInteger(GemmMode mode) { return mode == GemmMode::kS16 || mode == GemmMode::kS8x2; }
inline int64_t ElementBytes(GemmMode mode) { return mode == GemmMode::kBF16 || IsInteger(mode) ? 2 : 4; }
// Of K values that stand together: a row, or a piece of one that a product reads in segments.
int64_t PieceBytes(GemmMode mode, int64_t K);
// K up to whole pairs or runs, which products read.
int64_t PaddedK(GemmMode mode, int64_t K);

// Lets a product begin at `panel`, whose first column becomes C's; its ends count from there.
inline void SkipPanels(GemmArgs& product, int64_t panel) {
  product.b = static_cast<const std::byte*>(product.b) + panel * product.b_panel_bytes;
  product.bias += panel * kPanelWidth;
  if (product.factors != nullptr) product.factors += panel * kPanelWidth;
}

class PackedMatrix {
 public:
  // `run` is the shortest contiguous piece of a row of A: bf16 products need an even one, those of bf16x2, s16 and
  // s8x2 one of whole runs; other matrices are expanded to f32 (kRounded, kF32). 0: whole rows.
  static Result<PackedMatrix> Create(const LinearParams& linear, const IsaTable& isa, int64_t run = 0);
  // Several matrices of one width, one below the other.
  static Result<PackedMatrix> CreateStacked(std::span<const LinearParams> parts, const IsaTable& isa);

  // From f32 rows [N, K]; `dtype` is the type that the product wants. bias: N values or null. factors: PackMatrix.
  static Result<PackedMatrix> CreateFromRows(const float* rows, const float* bias, int64_t N, int64_t K, DType dtype,
                                             const IsaTable& isa, std::span<const float> factors = {});

  int64_t N() const { return N_; }
  int64_t K() const { return K_; }
  GemmMode mode() const { return mode_; }
  int64_t num_panels() const { return (N_ + kPanelWidth - 1) / kPanelWidth; }
  int64_t row_bytes() const { return ScratchRowBytes(mode_, K_); }
  // Rows as kernels hand them over that write a few values at a time, and so no run of integers: RunStage converts
  // them.
  GemmMode ready_mode() const { return IsInteger(mode_) ? GemmMode::kF32 : mode_; }
  int64_t ready_row_bytes() const { return ScratchRowBytes(ready_mode(), K_); }
  int64_t padded_K() const { return PaddedK(mode_, K_); }
  const float* bias() const { return reinterpret_cast<const float*>(bias_.data()); }

  // A product of all panels with `rows` rows at `a`; the caller adds the epilogue and C.
  GemmArgs Product(const void* a, int64_t a_row_bytes, int64_t rows) const;
  // Zeros what lies between K and padded_K() of rows of ready_row_bytes() that were written as far as K.
  void ZeroTails(std::byte* rows, int64_t count) const;

 private:
  Status SetBias(const float* bias);
  Status Pack(const float* rows, std::span<const float> factors, DType dtype, const IsaTable& isa, int64_t run);
  void ChooseMode(DType dtype, const IsaTable& isa, int64_t run);

  int64_t N_ = 0, K_ = 0;
  GemmMode mode_ = GemmMode::kF32;
  const void* panels_ = nullptr;  // owned_ or the engine file's
  AlignedBuffer owned_, bias_;
};

}  // namespace ting::cpu
