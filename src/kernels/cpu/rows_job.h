// src/kernels/cpu/rows_job.h
// SPDX-License-Identifier: Apache-2.0
//
// How the CPU backend spreads work over rows and threads, and the stage that most kernels share: prepare rows
// (norm, conversion), multiply, finish.
//
// Many rows: tiles of rows, one thread each, a whole chain a tile without barriers; a tile is at most ~56 rows
// (112 for bf16 by AMX) so that its activations and a pair of weight panels stay in the second-level cache. Few rows
// (streaming, steps of the attention search): all rows together, the weight's panels shared out among the threads.
#pragma once

#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "kernels/carver.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/packed_matrix.h"

namespace ting::cpu {

inline ThreadPool& Pool(const KernelContext& context) { return static_cast<CpuStream*>(context.stream)->pool(); }

// Whether input i comes with its sequences, which the kernel cannot do without.
inline bool HasSequences(const KernelContext& context, size_t i) {
  return i < context.input_rows.size() && context.input_rows[i] != nullptr;
}
inline Status NoSequences(const char* op, size_t i) {
  return InvalidArgument("{}: input {} has no row set; give the lengths of its sequences", op, i);
}

// p + n, or null for the null pointers of a pass that only counts.
template <typename T>
T* Offset(T* p, int64_t n) {
  return p == nullptr ? nullptr : p + n;
}

// Whether AMX multiplies in this mode: many times as fast as vectors, kAmxRows rows at a time.
inline bool UsesTiles(const IsaTable& isa, GemmMode mode) {
  return mode == GemmMode::kS8x2 || (isa.bf16_tiles && (mode == GemmMode::kBF16 || mode == GemmMode::kBF16x2));
}
inline constexpr int kAmxRows = 16;

struct RowTiles {
  int64_t rows = 0, tiles = 0;
  int64_t begin(int64_t tile) const { return rows / tiles * tile + std::min(tile, rows % tiles); }
  int64_t size(int64_t tile) const { return rows / tiles + (tile < rows % tiles ? 1 : 0); }
  int64_t largest() const { return tiles == 0 ? 0 : size(0); }
};
// Tiles of nearly equal size, their number a multiple of the threads where there are rows enough; `mode` is that of
// the products that they go through.
RowTiles SplitRows(int64_t rows, int threads, const IsaTable& isa, GemmMode mode);
// True where too few rows are there to keep the threads busy with tiles.
inline bool FewRows(int64_t rows, int threads) { return threads > 1 && rows < 16 * threads; }

// Whole sequences, next to each other, that one thread takes through a chain that needs neighbouring rows
// (attention, depthwise convolution): everything between input and output then stays in its second-level cache.
struct RowGroup {
  int first_sequence = 0, last_sequence = 0;  // [first, last)
  int64_t first_row = 0, rows = 0;
};
// Groups of at least a tile of rows each, the largest first. False where there are too few of them to keep the
// threads equally busy: the caller then shares out each stage of the chain.
bool ListGroups(const RowSet& sequences, int threads, std::vector<RowGroup>& groups);
// A pool of the calling thread alone, for stages inside a group's task.
ThreadPool& SerialPool();

struct Norm {
  const float *gamma = nullptr, *beta = nullptr;  // null: no norm
  float eps = 0;
  static Norm From(const NormParams& params) {
    return params.present ? Norm{params.gamma.as<float>(), params.beta.as<float>(), params.eps} : Norm{};
  }
};

// One linear stage over all rows. Either x (with an optional norm) or rows that are ready for the product.
struct LinearStage {
  const PackedMatrix* matrix = nullptr;
  const float* x = nullptr;
  int64_t x_stride = 0;
  Norm norm;
  const void* ready = nullptr;  // in the matrix's ready_mode()
  int64_t ready_row_bytes = 0;
  // Of the product: epilogue, scale, residual and C; A and B are filled in.
  Epilogue epilogue = Epilogue::kNone;
  float scale = 1;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  int64_t glu_panels = 0;
  void* c = nullptr;
  GemmMode c_mode = GemmMode::kF32;
  int64_t c_row_bytes = 0;
};
// Takes the stage's scratch from `carver` and, unless that only counts, runs it.
void RunStage(const IsaTable& isa, ThreadPool& pool, LinearStage stage, int64_t rows, Carver& carver);

// The parts that kernels with chains of their own use.
void PrepareRows(const IsaTable& isa, const float* x, int64_t x_stride, const Norm& norm, int64_t rows, int64_t D,
                 GemmMode mode, void* y, int64_t y_row_bytes);
void ParallelPanels(const IsaTable& isa, ThreadPool& pool, const GemmArgs& product);

Epilogue EpilogueOf(Activation activation);

}  // namespace ting::cpu
