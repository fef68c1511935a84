// src/kernels/cuda/conv_pair.cc
// SPDX-License-Identifier: Apache-2.0
//
// Host side of ConvPair: what can run, how the second stage is cut, the launches.
#include <cuda_runtime.h>

#include <algorithm>
#include <limits>

#include "base/status_macros.h"
#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/conv_pair_parameters.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

constexpr int64_t kMostChannels = 512, kMostFrequencies = 256, kMostSequences = 4096, kMostRows = 1 << 21;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
bool Aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Rows of a plane, and its elements (conv_pair_parameters.h).
int64_t PlaneRows(const ConvPairArguments& a) { return a.max_rows_out + a.B; }
int64_t PlanePositions(const ConvPairArguments& a) { return PlaneRows(a) * (a.F_out() + 1); }
int64_t PlaneElements(const ConvPairArguments& a) { return PlanePositions(a) * 2 * a.C; }

Status Check(const ConvPairArguments& a) {
  TING_RETURN_IF_ERROR(SupportsConvPair(a.storage, a.C, a.F_in));
  if ((a.mean != nullptr) != (a.istd != nullptr)) return InvalidArgument("conv pair: CMVN needs mean and istd");
  if (a.B < 0 || a.B > kMostSequences || a.max_rows_out < 0 || a.max_rows_out > kMostRows) {
    return Unimplemented("conv pair: {} sequences of {} rows; it takes {} and {}", a.B, a.max_rows_out, kMostSequences,
                         kMostRows);
  }
  for (const void* p :
       {a.weight[0], a.weight[1], static_cast<const void*>(a.workspace), static_cast<const void*>(a.y)}) {
    if (p == nullptr || !Aligned(p)) return InvalidArgument("conv pair: weights, workspace, y must be 16-byte aligned");
  }
  if (a.bias[0] == nullptr || a.bias[1] == nullptr) return InvalidArgument("conv pair: both stages need a bias");
  return Status();
}

Result<int> Multiprocessors() {
  int device = 0, count = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  TING_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

// Estimated cycles: rounds of units, each 9 C / 64 steps at the pace of the slowest of products, shared memory (written
// by the copy engine, read by wgmma) and L2, and a start and an end.
double EstimateCycles(const ConvPairArguments& a, const ConvPairConfig& config, int multiprocessors) {
  constexpr double kProducts = 2048, kSharedBytes = 128, kL2Bytes = 40, kWriteBytes = 32, kStartAndEnd = 1500;
  const ConvSecondLayout layout = ConvSecondLayoutOf(config);
  const double rows = 64.0 * config.groups, columns = config.tile_n, blocks = layout.blocks;
  const int64_t units = CeilDiv(PlanePositions(a), 64 * config.groups * config.cluster_rows) *
                        CeilDiv(a.C, config.tile_n * config.cluster_columns);
  const int64_t clusters = multiprocessors * layout.blocks / (config.cluster_rows * config.cluster_columns);
  const double products = rows * columns * 64 / kProducts;
  const double shared = (config.groups * (64 + columns) * 128 + layout.stage_bytes) / kSharedBytes;
  const double l2 = (rows / config.cluster_columns + columns / config.cluster_rows) * 128 / kL2Bytes;
  const double step = std::max({products, shared, l2}) * blocks;
  const double unit = static_cast<double>(9 * a.C / 64) * step + kStartAndEnd + rows * columns * 2 / kWriteBytes;
  return static_cast<double>(CeilDiv(units, clusters)) * unit;
}

}  // namespace

Status SupportsConvPair(ConvStorage storage, int64_t C, int64_t F_in) {
  int device = 0, major = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  TING_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  if (major != 9) return Unimplemented("conv pair: needs a GPU of compute capability 9.0, this one has {}.x", major);
  if (storage == ConvStorage::kF32) return Unimplemented("conv pair: computes in f16 and bf16 only");
  if (C < 64 || C > kMostChannels || C % 64 != 0 || F_in < 7 || F_in > kMostFrequencies) {
    return Unimplemented("conv pair: {} frequencies, {} channels; it takes 7 to {}, and multiples of 64 up to {}", F_in,
                         C, kMostFrequencies, kMostChannels);
  }
  return Status();
}

size_t ConvPairWorkspaceBytes(const ConvPairArguments& arguments) {
  return static_cast<size_t>(PlaneElements(arguments)) * 2 * 2;
}

ConvPairConfig ChooseConvPairConfig(const ConvPairArguments& arguments, int multiprocessors) {
  ConvPairConfig best;
  double least = std::numeric_limits<double>::infinity();
  for (const ConvPairConfig& config : kConvPairConfigs) {
    const double cycles = EstimateCycles(arguments, config, multiprocessors);
    if (cycles < least) least = cycles, best = config;
  }
  return best;
}

Status ConvPairFirst(const ConvPairArguments& arguments, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(Check(arguments));
  const ConvPairArguments& a = arguments;
  if (a.B == 0 || a.max_rows_out == 0) return Status();
  TING_ASSIGN_OR_RETURN(const int multiprocessors, Multiprocessors());
  ConvFirstParameters p{};
  p.features = a.features, p.mean = a.mean, p.istd = a.istd;
  p.in_offsets = a.in_offsets, p.out_offsets = a.out_offsets;
  p.weight = a.weight[0], p.bias = a.bias[0], p.planes = a.workspace;
  p.plane_elements = PlaneElements(a);
  p.B = static_cast<int>(a.B), p.C = static_cast<int>(a.C), p.F_in = static_cast<int>(a.F_in);
  p.F1 = static_cast<int>(a.F1()), p.half = static_cast<int>(a.F_out()) + 1;
  // As few rows a block as fill the chip once; up to 8, beyond which the start of a block no longer counts.
  p.rows_per_block = 1;
  while (p.rows_per_block < 8 && CeilDiv(PlaneRows(a), p.rows_per_block) > 2 * multiprocessors) p.rows_per_block *= 2;
  const int runs = std::max(1, 4 / p.rows_per_block);
  p.run = static_cast<int>(CeilDiv(p.half, runs)) * 2;
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(CeilDiv(PlaneRows(a), p.rows_per_block)));
  shape.block = dim3(kConvFirstThreads);
  shape.shared_bytes = static_cast<uint32_t>(p.rows_per_block * (5 * ConvFirstRowFloats(p.half) * 4 + 8));
  shape.dependent = a.dependent;
  return Launch(FindConvFirst(a.storage), shape, stream, p);
}

Status ConvPairSecond(const ConvPairArguments& arguments, const ConvPairConfig& config, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(Check(arguments));
  const ConvPairArguments& a = arguments;
  if (a.B == 0 || a.max_rows_out == 0) return Status();
  const ConvSecondFunction kernel = FindConvSecond(a.storage, config);
  if (kernel == nullptr) {
    return InvalidArgument("conv pair: no kernel of {} x 64 positions, {} channels, clusters of {} x {}", config.groups,
                           config.tile_n, config.cluster_rows, config.cluster_columns);
  }
  const TmaType type = a.storage == ConvStorage::kF16 ? TmaType::kF16 : TmaType::kBF16;
  ConvSecondParameters p{};
  TING_ASSIGN_OR_RETURN(p.a, MakeTensorMap(type, a.workspace, 2 * PlanePositions(a), 2 * a.C, 2 * a.C,
                                           64 * config.groups / config.cluster_columns, 64));
  TING_ASSIGN_OR_RETURN(
      p.w, MakeTensorMap(type, a.weight[1], a.C, 9 * a.C, 9 * a.C, config.tile_n / config.cluster_rows, 64));
  p.out_offsets = a.out_offsets, p.bias = a.bias[1], p.y = a.y;
  p.B = static_cast<int>(a.B), p.C = static_cast<int>(a.C), p.F_out = static_cast<int>(a.F_out()), p.half = p.F_out + 1;
  p.plane_positions = static_cast<int>(PlanePositions(a));

  const ConvSecondLayout layout = ConvSecondLayoutOf(config);
  LaunchShape shape;
  shape.block = dim3(static_cast<unsigned>(layout.threads));
  shape.shared_bytes = ConvSecondSharedBytes(config, p.C, p.B);
  shape.cluster = config.cluster_rows * config.cluster_columns;
  shape.dependent = a.dependent;
  TING_RETURN_IF_ERROR(AllowShared(kernel, shape.shared_bytes));
  // Only clusters that run at the same time: one that had to wait for another's end would double the time.
  int clusters = 0;
  TING_RETURN_IF_ERROR(ActiveClusters(kernel, shape, &clusters));
  const int64_t units = CeilDiv(PlanePositions(a), 64 * config.groups * config.cluster_rows) *
                        CeilDiv(a.C, config.tile_n * config.cluster_columns);
  shape.grid = dim3(static_cast<unsigned>(std::min<int64_t>(units, std::max(clusters, 1)) * shape.cluster));
  return Launch(kernel, shape, stream, p);
}

Status ConvPair(const ConvPairArguments& arguments, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(ConvPairFirst(arguments, stream));
  TING_ASSIGN_OR_RETURN(const int multiprocessors, Multiprocessors());
  ConvPairArguments second = arguments;
  second.dependent = true;
  return ConvPairSecond(second, ChooseConvPairConfig(arguments, multiprocessors), stream);
}

}  // namespace ting::cuda
