// src/kernels/cuda/row_gemm.cc
// SPDX-License-Identifier: Apache-2.0
//
// Host side of row_gemm: what can run, and the launch. How a product is cut: row_gemm_choice.cc.
#include "kernels/cuda/row_gemm.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_gemm_choice.h"
#include "kernels/cuda/row_gemm_kernel.h"
#include "kernels/cuda/row_gemm_stationary.h"

namespace ting::cuda {

extern template RowGemmKernelFunction FindRowGemmKernel<__half>(const RowGemmConfig&, RowGemmOutput, RowGemmMode);
extern template RowGemmKernelFunction FindRowGemmKernel<__nv_bfloat16>(const RowGemmConfig&, RowGemmOutput,
                                                                       RowGemmMode);
extern template RowGemmKernelFunction stationary::FindKernel<__half>(RowGemmOutput);
extern template RowGemmKernelFunction stationary::FindKernel<__nv_bfloat16>(RowGemmOutput);

namespace {

constexpr unsigned kFewBlocks = 64;                                  // half a device's multiprocessors
constexpr uint32_t kWholeBytes = 220 << 10, kHalfBytes = 112 << 10;  // of a multiprocessor's 227 KB

RowGemmMode ModeOf(int64_t K, const RowGemmConfig& config) {
  if (K <= kRowGemmResidentK) return RowGemmMode::kResident;
  return config.split > 1 ? RowGemmMode::kSplit : RowGemmMode::kStream;
}

// Blocks of a multiprocessor, as far as registers and three stages of a ring allow.
int BlocksTogether(const RowGemmArguments& a, const RowGemmConfig& config) {
  const bool fit = RowGemmSharedLayout(config, a.K, 3).total_bytes <= kHalfBytes;
  return fit ? RowGemmBlocks(config.groups, config.tile_n, ModeOf(a.K, config)) : 1;
}

// Of each ring.
int ChooseStages(const RowGemmArguments& a, const RowGemmConfig& config, int64_t blocks, int multiprocessors) {
  const RowGemmShared layout = RowGemmSharedLayout(config, a.K, 0);
  const int turns = RowGemmTurns(config, a.K);
  const uint32_t budget = blocks > multiprocessors && BlocksTogether(a, config) > 1 ? kHalfBytes : kWholeBytes;
  const int64_t fit = budget < layout.total_bytes ? 0 : (budget - layout.total_bytes) / (layout.stage_bytes * turns);
  const int64_t steps = CeilDiv(a.K / 64, config.split) * CeilDiv(config.tiles_per_block, turns);
  // A cluster's exchange of sums takes the place of the ring.
  const int64_t exchange = config.split > 1 ? CeilDiv(256 * config.groups * config.tile_n, layout.stage_bytes) : 1;
  return static_cast<int>(std::min({std::max(steps, exchange), fit, int64_t{kRowGemmMaxStages}}));
}

Status CheckOperands(const RowGemmArguments& a) {
  TING_RETURN_IF_ERROR(CheckHalf(a.type, "row_gemm"));
  const bool is_float = a.x_f32 != nullptr;
  if (is_float == (a.x != nullptr)) return InvalidArgument("row_gemm: give x or x_f32");
  if (a.M < 0 || a.M > kMaxRows || a.N < 1 || a.K < 64 || a.K % 64 != 0) {
    return Unimplemented("row_gemm: [{}, {}] x [{}]: K must be a multiple of 64, rows at most 2^22", a.M, a.K, a.N);
  }
  if (is_float && a.K != 256 && a.K != 512) {
    return Unimplemented("row_gemm: f32 rows of {} elements; it takes 256 or 512", a.K);
  }
  if ((a.gamma == nullptr) != (a.beta == nullptr) || (a.gamma != nullptr && !is_float)) {
    return InvalidArgument("row_gemm: LayerNorm needs gamma, beta and f32 rows");
  }
  const void* x = is_float ? static_cast<const void*>(a.x_f32) : a.x;
  if (!AlignedTo16(x) || a.x_stride % (is_float ? 4 : 8) != 0 || a.x_stride < a.K || !AlignedTo16(a.weight) ||
      !AlignedTo16(a.gamma) || !AlignedTo16(a.beta)) {
    return Unimplemented("row_gemm: x, its rows, weight and norm must start at multiples of 16 bytes");
  }
  return Status();
}

Status CheckScatter(const RowGemmArguments& a) {
  if (a.scatter.rows == nullptr) return Status();
  if (a.output != RowGemmOutput::kHalf || a.K > kRowGemmResidentK || a.scatter.first_column % 128 != 0) {
    return Unimplemented("row_gemm: only 16-bit columns from a multiple of 128 on, with K <= {}, can be scattered",
                         kRowGemmResidentK);
  }
  if (AlignedTo16(a.scatter.y) && a.scatter.stride % 8 == 0) return Status();
  return Unimplemented("row_gemm: scattered rows must start at multiples of 16 bytes");
}

Status CheckOutput(const RowGemmArguments& a) {
  if (a.output == RowGemmOutput::kFloat) {
    TING_RETURN_IF_ERROR(CheckScatter(a));
    return a.activation == Activation::kNone ? Status() : Unimplemented("row_gemm: an activation needs 16-bit output");
  }
  const bool glu = a.output == RowGemmOutput::kGlu;
  if (a.N % (glu ? 16 : 8) != 0) return Unimplemented("row_gemm: {} columns for 16-bit output", a.N);
  if (glu && (a.K > kRowGemmResidentK || a.activation != Activation::kNone)) {
    return Unimplemented("row_gemm: GLU takes K <= {} and no activation", kRowGemmResidentK);
  }
  if (a.residual != nullptr || a.scale != 1) return Unimplemented("row_gemm: residual and scale need f32 output");
  if (!AlignedTo16(a.y) || a.y_stride % 8 != 0) return Unimplemented("row_gemm: rows of y must start at 16 bytes");
  return CheckScatter(a);
}

int64_t ColumnBlocks(const RowGemmArguments& a, const RowGemmConfig& config) {
  return CeilDiv(CeilDiv(a.N, config.tile_n), config.tiles_per_block);
}
int64_t RowBlocks(const RowGemmArguments& a, const RowGemmConfig& config, int multiprocessors) {
  const int64_t blocks = CeilDiv(CeilDiv(a.M, RowGemmRows(config, a.K)), config.share) * config.share;
  if (!IsStationary(config) || a.output == RowGemmOutput::kFloat) return blocks;
  return std::min(blocks, std::max<int64_t>(multiprocessors / ColumnBlocks(a, config), 1));
}

// Two stages at least, unless the whole of K fits into one.
Status CheckStages(const RowGemmArguments& a, const RowGemmConfig& config, int multiprocessors, int* stages) {
  if (IsStationary(config)) return Status();  // it has none
  const int64_t blocks = ColumnBlocks(a, config) * config.split * RowBlocks(a, config, multiprocessors);
  *stages = ChooseStages(a, config, blocks, multiprocessors);
  if (*stages >= 2 || *stages * 64 >= a.K) return Status();
  return InvalidArgument("row_gemm: {} stages of {} groups, {} x {} columns fit into shared memory", *stages,
                         config.groups, config.tiles_per_block, config.tile_n);
}

Status CheckConfig(const RowGemmArguments& a, const RowGemmConfig& config, RowGemmKernelFunction kernel) {
  const bool resident = a.K <= kRowGemmResidentK;
  const bool split_fits = config.split == 1 || (!resident && config.split == RowGemmSegments(a.K));
  const bool tiles_fit = config.tiles_per_block >= 1 && (resident || config.tiles_per_block == 1) &&
                         config.tiles_per_block * config.tile_n <= kMaxColumnsPerBlock;
  const bool share_fits = config.share == 1 || (config.share == 2 && config.split == 1);
  const bool few_rows = (config.rows == 16 || config.rows == 32) && resident && (a.x_f32 == nullptr || a.K == 256);
  const bool rows_fit = config.rows == 64 || few_rows;
  const bool fits = IsStationary(config) ? SupportsStationary(a, config)
                                         : kernel != nullptr && split_fits && tiles_fit && share_fits && rows_fit;
  if (fits) return Status();
  return InvalidArgument(
      "row_gemm: no kernel of {} groups, {} rows, {} x {} columns, split {}, share {} for [{}, {}] x [{}]",
      config.groups, config.rows, config.tiles_per_block, config.tile_n, config.split, config.share, a.M, a.K, a.N);
}

RowGemmKernelFunction FindKernel(const RowGemmArguments& a, const RowGemmConfig& config) {
  if (IsStationary(config)) {
    return a.type == DType::kF16 ? stationary::FindKernel<__half>(a.output)
                                 : stationary::FindKernel<__nv_bfloat16>(a.output);
  }
  const RowGemmMode mode = ModeOf(a.K, config);
  return a.type == DType::kF16 ? FindRowGemmKernel<__half>(config, a.output, mode)
                               : FindRowGemmKernel<__nv_bfloat16>(config, a.output, mode);
}

int Log2(int power) {
  int log = 0;
  while (1 << log < power) ++log;
  return log;
}

// Of the weight-stationary form: a copy brings 64 columns of W's rows of a block, or (for f32 results) a tile's rows of
// x or the residual.
Status MakeStationaryMaps(const RowGemmArguments& a, RowGemmParameters& p) {
  using stationary::kBlockN, stationary::kK, stationary::kTileRows;
  TING_ASSIGN_OR_RETURN(p.w, MakeTensorMap(a.type, a.weight, a.N, a.K, a.K, kBlockN, 64));
  if (a.x == nullptr) return Status();
  TING_ASSIGN_OR_RETURN(p.a, MakeTilesMap(a.type, a.x, a.M, a.K, a.x_stride, kTileRows, kK / 64));
  if (a.residual == nullptr) return Status();
  TING_ASSIGN_OR_RETURN(p.residual_tiles,
                        MakeTilesMap(DType::kF32, a.residual, a.M, a.N, a.residual_stride, kTileRows, kBlockN / 32));
  return Status();
}

Status MakeMaps(const RowGemmArguments& a, const RowGemmConfig& config, RowGemmParameters& p) {
  if (IsStationary(config)) return MakeStationaryMaps(a, p);
  TING_ASSIGN_OR_RETURN(p.w, MakeTensorMap(a.type, a.weight, a.N, a.K, a.K, config.tile_n / config.share, 64));
  if (a.x == nullptr) return Status();
  const int box_rows = a.K <= kRowGemmResidentK ? config.rows : 64;
  TING_ASSIGN_OR_RETURN(p.a, MakeTensorMap(a.type, a.x, a.M, a.K, a.x_stride, box_rows, 64));
  return Status();
}

Result<RowGemmParameters> MakeParameters(const RowGemmArguments& a, const RowGemmConfig& config) {
  RowGemmParameters p{};
  TING_RETURN_IF_ERROR(MakeMaps(a, config, p));
  p.rows = RowGemmRows(config, a.K);
  p.x_f32 = a.x_f32, p.gamma = a.gamma, p.beta = a.beta, p.bias = a.bias, p.residual = a.residual;
  p.y = a.y, p.scatter = a.scatter, p.num_rows = a.num_rows;
  p.x_stride = a.x_stride, p.y_stride = a.y_stride, p.residual_stride = a.residual_stride;
  p.M = static_cast<int>(a.M), p.N = static_cast<int>(a.N), p.K = static_cast<int>(a.K);
  p.tiles_per_block = config.tiles_per_block, p.segments_log2 = Log2(RowGemmSegments(a.K)), p.share = config.share;
  p.eps = a.eps, p.scale = a.scale, p.activation = a.activation, p.fours = ByFours(a);
  return p;
}

}  // namespace

Status SupportsRowGemm(const RowGemmArguments& arguments, const RowGemmConfig& config) {
  TING_RETURN_IF_ERROR(CheckHopper("row_gemm"));
  TING_RETURN_IF_ERROR(CheckOperands(arguments));
  TING_RETURN_IF_ERROR(CheckOutput(arguments));
  TING_RETURN_IF_ERROR(CheckConfig(arguments, config, FindKernel(arguments, config)));
  TING_ASSIGN_OR_RETURN(const int multiprocessors, Multiprocessors());
  int stages = 0;
  return CheckStages(arguments, config, multiprocessors, &stages);
}

Status SupportsRowGemm(const RowGemmArguments& arguments) {
  TING_ASSIGN_OR_RETURN(const int multiprocessors, Multiprocessors());
  return SupportsRowGemm(arguments, ChooseRowGemmConfig(arguments, multiprocessors));
}

namespace {

unsigned ThreadsOf(const RowGemmArguments& a, const RowGemmConfig& config) {
  const bool is_float = a.output == RowGemmOutput::kFloat;
  if (IsStationary(config)) return is_float ? stationary::kFloatThreads : stationary::kHalfThreads;
  return static_cast<unsigned>(RowGemmThreads(config.groups, a.K <= kRowGemmResidentK));
}
uint32_t SharedBytes(const RowGemmArguments& a, const RowGemmConfig& config, int stages) {
  if (!IsStationary(config)) return RowGemmSharedLayout(config, a.K, stages).total_bytes;
  return a.output == RowGemmOutput::kFloat ? stationary::SharedFloat::kBytes : stationary::SharedHalf::kBytes;
}

}  // namespace

Status RowGemm(const RowGemmArguments& arguments, cudaStream_t stream) {
  TING_ASSIGN_OR_RETURN(const int multiprocessors, Multiprocessors());
  return RowGemm(arguments, ChooseRowGemmConfig(arguments, multiprocessors), stream);
}

Status RowGemm(const RowGemmArguments& arguments, const RowGemmConfig& config, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(SupportsRowGemm(arguments, config));
  if (arguments.M == 0) return Status();
  TING_ASSIGN_OR_RETURN(const int multiprocessors, Multiprocessors());
  TING_ASSIGN_OR_RETURN(RowGemmParameters parameters, MakeParameters(arguments, config));
  TING_RETURN_IF_ERROR(CheckStages(arguments, config, multiprocessors, &parameters.stages));
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(RowBlocks(arguments, config, multiprocessors) * config.split),
                    static_cast<unsigned>(ColumnBlocks(arguments, config)));
  shape.block = ThreadsOf(arguments, config);
  shape.shared_bytes = SharedBytes(arguments, config, parameters.stages);
  shape.cluster = config.split * config.share;
  shape.dependent = arguments.dependent;
  shape.together = shape.grid.x * shape.grid.y <= kFewBlocks;
  parameters.starts_next = arguments.starts_next && shape.together;
  const RowGemmKernelFunction kernel = FindKernel(arguments, config);
  TING_RETURN_IF_ERROR(AllowShared(kernel, shape.shared_bytes, shape.cluster));
  return Launch(kernel, shape, stream, parameters);
}

}  // namespace ting::cuda
