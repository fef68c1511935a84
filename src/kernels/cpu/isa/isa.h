// src/kernels/cpu/isa/isa.h
// SPDX-License-Identifier: Apache-2.0
//
// The inner loops of the CPU backend as a table of plain functions. isa_table.cc is compiled once an instruction
// set and gives one table each; ActiveIsa() chooses at run time. Everything here is raw pointers and plain
// structs: code compiled with -mavx512f must instantiate no inline function that another file shares, or the
// linker could keep the AVX-512 copy for everyone.
//
// Strides are in elements unless the name says bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ting::cpu {

// What a product reads. kRounded: bf16 weights on a machine without bf16 products: weights expanded to f32,
// activations rounded to bf16 but stored as f32, f32 sums. kBF16x2 (AMX): f32 numbers as sums of two bf16, each product
// as three: low by high, high by low and high by high. A row has its values in runs of 32: the 32 nearest bf16, then
// the 32 bf16 nearest to what those leave, 128 bytes together.
// kS16 (AVX512-VNNI): integers. Rows in runs of 32 that each have a factor, which makes the run's largest magnitude
// kMostOfRun: first the integers of all runs of a piece, then its factors. A run is summed exactly, in 32 bits, then
// multiplied by its factor and added in f32; columns of B have a factor each for the whole sum.
// kS8x2 (AMX): the same integers as 256 * high + low, each product as four of 8 bits. Rows in blocks of 256 values (the
// last may be shorter) that each have a factor: of 64 values the 64 high terms, then the 64 low ones; behind the
// block's values a line that begins with its factor. A block is summed exactly.
enum class GemmMode : uint8_t { kF32, kBF16, kRounded, kBF16x2, kS16, kS8x2 };
inline constexpr int64_t kRunValues = 32;         // kBF16x2, kS16
inline constexpr int64_t kTermBytes = 64;         // kBF16x2, kS8x2: of one term of a run
inline constexpr int64_t kRunValuesS8x2 = 64;     // whose terms lie together
inline constexpr int64_t kBlockValuesS8x2 = 256;  // that have one factor
inline constexpr int64_t kBlockBytesS8x2 = 2 * kBlockValuesS8x2 + 64;
inline constexpr float kMostOfRun = 16383, kMostOfBlock = 32639;  // the largest magnitude that factors make of values

enum class Epilogue : uint8_t { kNone, kRelu, kSwish, kGelu, kGlu };

// C = scale * act(A B + bias) [+ residual]. A's rows come in groups (an output frame of a convolution is one);
// row r of group g starts at a + g * a_group_bytes + r * a_row_bytes and is cut into num_segments runs of
// segment_k values, run s at + segment_bytes[s] (null: one run). B is panel16. Sums run over k in order, one
// fused multiply-add each, whatever the tile: a row's bits do not depend on the rows beside it.
struct GemmArgs {
  const void* a = nullptr;
  int64_t a_row_bytes = 0, a_group_bytes = 0;
  int64_t rows = 0, groups = 1;
  const int64_t* segment_bytes = nullptr;
  int64_t num_segments = 1, segment_k = 0;

  const void* b = nullptr;
  int64_t b_panel_bytes = 0;  // from one panel to the next
  int64_t first_panel = 0, last_panel = 0;
  int64_t glu_panels = 0;          // kGlu: panel p is gated by panel p + glu_panels
  const float* bias = nullptr;     // padded to whole panels
  const float* factors = nullptr;  // kS16, kS8x2: of B's columns, padded likewise
  int64_t N = 0;                   // columns of C; the last panel may stick out

  GemmMode mode = GemmMode::kF32;  // type of A and B
  Epilogue epilogue = Epilogue::kNone;
  float scale = 1;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  void* c = nullptr;                 // f32; kBF16: bf16; kRounded: f32 holding bf16 values; kBF16x2, kS16: runs
  GemmMode c_mode = GemmMode::kF32;  // not kS16 with kGlu, nor kS8x2
  int64_t c_row_bytes = 0, c_group_bytes = 0;
  int64_t c_factors_bytes = 0;  // kS16: from a row's start to its factors
};

// y = norm(x) or a copy, in the type that a product reads; y's row is zero from D to padded_D.
struct NormArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, D = 0, padded_D = 0;
  const float *gamma = nullptr, *beta = nullptr;  // gamma null: no norm
  float eps = 0;
  void* y = nullptr;
  GemmMode y_mode = GemmMode::kF32;
  int64_t y_row_bytes = 0;
};

// Keys of one head and sequence, with their positions added, as panels of 16 keys: [ceil(T/16)][Dh][16]; values as
// [ceil(Dh/16)][T][16]. Both zero past the end.
struct PackHeadArgs {
  const float *k = nullptr, *v = nullptr, *positions = nullptr;  // positions null: none
  int64_t k_stride = 0, v_stride = 0, position_stride = 0;
  int64_t T = 0, Dh = 0;
  float *key_panels = nullptr, *value_panels = nullptr;
};

// Up to kAttentionRows query rows of one head: softmax(scale (q + u) K + bias) V over keys [first[r], last[r]).
inline constexpr int kAttentionRows = 14;
struct AttentionArgs {
  const float* q = nullptr;
  int64_t q_stride = 0, rows = 0;
  const float* u = nullptr;  // [Dh] or null
  float scale = 1;
  const float *key_panels = nullptr, *value_panels = nullptr;
  const float* key_bias = nullptr;  // [T] padded to 16
  int64_t T = 0, Dh = 0;
  const int64_t *first = nullptr, *last = nullptr;
  float* scratch = nullptr;  // AttentionScratchFloats(T, Dh)
  void* out = nullptr;       // rows of all heads; this one's columns are [out_column, out_column + Dh)
  GemmMode out_mode = GemmMode::kF32;
  int64_t out_row_bytes = 0, out_column = 0;
};
inline int64_t AttentionScratchFloats(int64_t T, int64_t Dh) {
  const int64_t padded_T = (T + 15) / 16 * 16 + 16, padded_Dh = (Dh + 15) / 16 * 16 + 16;
  return kAttentionRows * (padded_T + 2 * padded_Dh);
}

// One query row against keys at pool[ancestors[i]]: k at the row's start, v at + D.
struct TreeArgs {
  const float* q = nullptr;  // [D]
  float scale = 1;
  const float* pool = nullptr;
  const int32_t* ancestors = nullptr;
  int64_t num_ancestors = 0, D = 0;
  int heads = 1;
  float* scores = nullptr;  // num_ancestors floats
  void* out = nullptr;
  GemmMode out_mode = GemmMode::kF32;
};

// Rows [first, last) of one sequence of T rows: depthwise convolution over g, optional LayerNorm, swish.
struct DepthwiseArgs {
  const float* g = nullptr;  // row 0 of the sequence
  int64_t g_stride = 0, T = 0, D = 0, padded_D = 0;
  int64_t first = 0, last = 0;
  const float* w = nullptr;     // [taps, D]
  const float* bias = nullptr;  // [D]
  int taps = 0, left = 0;
  const float* before = nullptr;                  // the row that stands before the sequence (causal); null: zeros
  const float *gamma = nullptr, *beta = nullptr;  // null: no norm
  float eps = 0;
  Epilogue activation = Epilogue::kSwish;
  float* scratch = nullptr;  // D floats
  void* y = nullptr;         // row `first`
  GemmMode y_mode = GemmMode::kF32;
  int64_t y_row_bytes = 0;
};

// The first convolution, one input channel: frames [first, first + frames) of its output, ReLU.
struct FirstConvArgs {
  const float* x = nullptr;  // row 0 of the sequence's features
  int64_t num_mel = 0;
  const float *mean = nullptr, *istd = nullptr;  // null: none
  int kernel = 3, stride = 2;
  const float* w = nullptr;     // [kernel * kernel][padded_C]: tap-major, channels innermost
  const float* bias = nullptr;  // [padded_C]
  int64_t C = 0, padded_C = 0, frequencies = 0;
  int64_t first = 0, frames = 0;
  float* scratch = nullptr;  // kernel * num_mel floats; kS16, kS8x2: and 4 * padded_C
  void* y = nullptr;         // [frames][frequencies] pixels of C values
  GemmMode y_mode = GemmMode::kF32;
  int64_t y_pixel_bytes = 0, y_frame_bytes = 0;
};

// Running maximum, sum of exponentials and k best of rows of logits, fed a block of columns at a time.
struct ReduceArgs {
  const float* logits = nullptr;  // columns [first_column, first_column + columns)
  int64_t columns = 0, first_column = 0;
  float* max = nullptr;  // in and out: -inf and 0 at the start
  float* sum = nullptr;
  int64_t k = 0;              // 0: no list
  int64_t* filled = nullptr;  // in and out: entries in the list
  float* values = nullptr;    // [k] descending
  int32_t* ids = nullptr;
};

struct IsaTable {
  const char* name = "";
  int lanes = 1;
  int max_rows = 1;  // rows of the widest GEMM tile
  bool bf16_products = false;
  bool bf16_tiles = false;  // by AMX: many times as fast as f32
  bool s16_products = false;
  bool s8x2_tiles = false;
  void (*gemm)(const GemmArgs&) = nullptr;
  void (*norm_rows)(const NormArgs&) = nullptr;
  void (*pack_head)(const PackHeadArgs&) = nullptr;
  void (*attention)(const AttentionArgs&) = nullptr;
  void (*tree_row)(const TreeArgs&) = nullptr;
  void (*depthwise)(const DepthwiseArgs&) = nullptr;
  void (*first_conv)(const FirstConvArgs&) = nullptr;
  void (*reduce)(const ReduceArgs&) = nullptr;
  void (*add_scaled)(const float* a, const float* b, float scale, int64_t n, float* y) = nullptr;
  void (*add_constant)(float constant, int64_t n, float* y) = nullptr;
  void (*activate)(Epilogue activation, int64_t n, float* y) = nullptr;
  // `iterations` rounds of independent fused multiply-adds in registers (of bf16 pairs if `bf16`); returns the
  // floating-point operations done. For the benchmarks' measure of the machine.
  double (*peak)(int64_t iterations, bool bf16, float* sink) = nullptr;
};

// The best table this machine runs, or the one named by the environment variable TING_CPU_ISA. Null and a
// sentence in *problem when that variable names one that does not exist or does not run here.
const IsaTable* ActiveIsa(const char** problem);
// All tables that this machine runs, best first, ended by null.
const IsaTable* const* RunnableIsas();

}  // namespace ting::cpu
