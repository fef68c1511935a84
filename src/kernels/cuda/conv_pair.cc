// src/kernels/cuda/conv_pair.cc
// SPDX-License-Identifier: Apache-2.0
//
// Host side of ConvPair: what can run, how it is cut, the launch.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <limits>

#include "base/status_macros.h"
#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/conv_pair_parameters.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

constexpr int64_t kMostChannels = 512, kLeastFrequencies = 19, kMostFrequencies = 256;
constexpr int64_t kMostSequences = 1 << 16, kMostRows = 1 << 21;
constexpr int kLeastStages = 2, kMostStages = 12;

// At most, of all sequences (conv_pair_parameters.h).
int64_t Positions(const ConvPairArguments& a) { return (a.max_rows_out + a.B) * a.F_out(); }

Status Check(const ConvPairArguments& a) {
  TING_RETURN_IF_ERROR(SupportsConvPair(a.storage, a.C, a.F_in));
  if ((a.mean != nullptr) != (a.istd != nullptr)) return InvalidArgument("conv pair: CMVN needs mean and istd");
  if (a.B < 0 || a.B > kMostSequences || a.max_rows_out < 0 || a.max_rows_out > kMostRows) {
    return Unimplemented("conv pair: {} sequences of {} rows; it takes {} and {}", a.B, a.max_rows_out, kMostSequences,
                         kMostRows);
  }
  if (a.weight[0] == nullptr || a.weight[1] == nullptr || a.y == nullptr || !AlignedTo16(a.weight[1]) ||
      !AlignedTo16(a.y) || !AlignedTo16(a.features)) {
    return InvalidArgument("conv pair: features, second weight and y must be 16-byte aligned");
  }
  if (a.bias[0] == nullptr || a.bias[1] == nullptr) return InvalidArgument("conv pair: both stages need a bias");
  return Status();
}

// Estimated cycles: rounds of tiles, each at the pace of the slower of the first stage, whose producers wait for
// answers most of the time, and the second, 9 C / 16 steps that products, shared memory (written by copies and
// producers, read by wgmma) or L2 hold back. Fitted to the times of ConvPairBench. Rows are padded (PadSize) by 1/32 on
// average.
double EstimateCycles(const ConvPairArguments& a, const ConvPairConfig& config, int multiprocessors) {
  constexpr double kProducts = 2048, kSharedBytes = 128, kL2Bytes = 40, kUnhidden = 1.1, kBetweenTiles = 4000;
  constexpr double kFirst = 2.4;  // cycles for 64 units of work and a channel, with one warpgroup
  const ConvPairRoles roles = ConvPairRolesOf(config);
  const double rows = config.channels, positions = config.positions, C = static_cast<double>(a.C);
  const int64_t columns = CeilDiv(a.C, config.channels);
  const int64_t pairs = CeilDiv(Positions(a) - Positions(a) / 32, config.positions * kConvClusterBlocks);
  const int64_t rounds = CeilDiv(pairs, std::max<int64_t>(multiprocessors / kConvClusterBlocks / columns, 1));
  const double products = rows * positions * 16 / kProducts;
  const double shared = (2 * rows + (rows / 64 + 1) * positions) * 32 / kSharedBytes;
  const double l2 = rows * 32 / kConvClusterBlocks / kL2Bytes;
  const double second = kUnhidden * 9 * C / 16 * std::max({products, shared, l2});
  const double first = kFirst * 9 * roles.unit_tiles * C / roles.producers;
  return static_cast<double>(rounds) * (std::max(first, second) + kBetweenTiles);
}

// Of the ring of weights, as many as fit; fewer than kLeastStages: it cannot run.
int Stages(const ConvPairArguments& a, const ConvPairConfig& config) {
  if (ConvPairUnits(config, static_cast<int>(a.F_out())) > 64 * ConvPairRolesOf(config).unit_tiles) return 0;
  const auto bytes = [&](int stages) {
    return ConvPairLayoutOf(config, static_cast<int>(a.C), static_cast<int>(a.F_in), static_cast<int>(a.F_out()),
                            stages)
        .total_bytes;
  };
  int stages = 0;
  while (stages < kMostStages && bytes(stages + 1) <= kHopperSharedBytes) ++stages;
  return stages;
}

ConvPairFunction FindKernel(DType storage, const ConvPairConfig& config) {
  return storage == DType::kF16 ? FindConvPair<__half>(config) : FindConvPair<__nv_bfloat16>(config);
}

Result<ConvPairParameters> MakeParameters(const ConvPairArguments& a, const ConvPairConfig& config) {
  ConvPairParameters p{};
  TING_ASSIGN_OR_RETURN(p.w, MakeTensorMap(a.storage, a.weight[1], a.C, 9 * a.C, 9 * a.C,
                                           config.channels / kConvClusterBlocks, kConvChannels));
  p.features = a.features, p.mean = a.mean, p.istd = a.istd;
  p.in_offsets = a.in_offsets, p.out_offsets = a.out_offsets;
  p.first_weight = a.weight[0], p.first_bias = a.bias[0], p.second_bias = a.bias[1], p.y = a.y;
  p.B = static_cast<int>(a.B), p.C = static_cast<int>(a.C);
  p.F_in = static_cast<int>(a.F_in), p.F_out = static_cast<int>(a.F_out());
  p.stages = Stages(a, config);
  return p;
}

}  // namespace

Status SupportsConvPair(DType storage, int64_t C, int64_t F_in) {
  TING_RETURN_IF_ERROR(CheckHopper("conv pair"));
  TING_RETURN_IF_ERROR(CheckHalf(storage, "conv pair"));
  if (C < 64 || C > kMostChannels || C % 64 != 0 || F_in < kLeastFrequencies || F_in > kMostFrequencies) {
    return Unimplemented("conv pair: {} frequencies, {} channels; it takes {} to {}, and multiples of 64 up to {}",
                         F_in, C, kLeastFrequencies, kMostFrequencies, kMostChannels);
  }
  return Status();
}

Status SupportsConvPair(const ConvPairArguments& arguments, const ConvPairConfig& config) {
  TING_RETURN_IF_ERROR(Check(arguments));
  if (FindKernel(arguments.storage, config) != nullptr && Stages(arguments, config) >= kLeastStages) return Status();
  return InvalidArgument("conv pair: no kernel of {} channels, {} positions for {} channels of {} frequencies",
                         config.channels, config.positions, arguments.C, arguments.F_in);
}

ConvPairConfig ChooseConvPairConfig(const ConvPairArguments& arguments, int multiprocessors) {
  ConvPairConfig best;
  double least = std::numeric_limits<double>::infinity();
  for (const ConvPairConfig& config : kConvPairConfigs) {
    if (Stages(arguments, config) < kLeastStages) continue;
    const double cycles = EstimateCycles(arguments, config, multiprocessors);
    if (cycles < least) least = cycles, best = config;
  }
  return best;
}

Status ConvPair(const ConvPairArguments& arguments, const ConvPairConfig& config, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(Check(arguments));
  const ConvPairArguments& a = arguments;
  if (a.B == 0 || a.max_rows_out == 0) return Status();
  TING_RETURN_IF_ERROR(SupportsConvPair(a, config));
  const ConvPairFunction kernel = FindKernel(a.storage, config);
  TING_ASSIGN_OR_RETURN(const ConvPairParameters p, MakeParameters(a, config));
  LaunchShape shape;
  shape.block = dim3(kConvPairThreads);
  shape.shared_bytes = ConvPairLayoutOf(config, p.C, p.F_in, p.F_out, p.stages).total_bytes;
  shape.cluster = kConvClusterBlocks;
  shape.dependent = a.dependent;
  TING_RETURN_IF_ERROR(AllowShared(kernel, shape.shared_bytes));
  // Only clusters that run at the same time: one that had to wait for another's end would double the time.
  int clusters = 0;
  TING_RETURN_IF_ERROR(ActiveClusters(kernel, shape, &clusters));
  const int64_t columns = CeilDiv(a.C, config.channels);
  const int64_t pairs = CeilDiv(Positions(a), config.positions * kConvClusterBlocks);
  const int64_t at_once = std::max<int64_t>(clusters / columns, 1);
  shape.grid = dim3(static_cast<unsigned>(std::min(pairs, at_once) * columns * kConvClusterBlocks));
  return Launch(kernel, shape, stream, p);
}

Status ConvPair(const ConvPairArguments& arguments, cudaStream_t stream) {
  TING_ASSIGN_OR_RETURN(const int multiprocessors, Multiprocessors());
  return ConvPair(arguments, ChooseConvPairConfig(arguments, multiprocessors), stream);
}

}  // namespace ting::cuda
