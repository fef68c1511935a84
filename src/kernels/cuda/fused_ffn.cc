// src/kernels/cuda/fused_ffn.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/fused_ffn.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <iterator>

#include "base/status_macros.h"
#include "kernels/cuda/fused_ffn_arguments.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

using ffn::Arguments;

constexpr int kSharedLimit = 227 * 1024;  // of a block of compute capability 9.0
constexpr int kMaxCluster = 16;
// What is chosen: in a chain of kernels larger clusters wait for a place longer than their smaller slices save.
constexpr int kMostSplit = 8;

int StagesFor(int tile_rows, int chunks, int split) {
  const bool narrow = ffn::IsNarrow(tile_rows);
  const int step = narrow ? 2 : 1;  // slots belong to one warpgroup, which has a producer of its own
  int stages = std::min(ffn::kMaxStages, 2 * chunks * step);  // no more than are filled
  while (stages > 0 && ffn::LayoutOf(tile_rows, stages, chunks, split).bytes > kSharedLimit) stages -= step;
  return stages;
}
// 128 rows: the first product of a chunk is started before the second of the one before has ended. Narrow tiles: each
// warpgroup uses two stages at once; at the end the sums of half of the columns, and those received, lie in the ring.
int LeastStages(int tile_rows, int split) {
  if (!ffn::IsNarrow(tile_rows)) return 2;
  const int sums = ffn::HalfBytes(tile_rows) + ffn::ReceivedBytes(tile_rows, split);
  return std::max(4, (sums + ffn::StageBytes(tile_rows) - 1) / ffn::StageBytes(tile_rows));
}

int Units(int64_t F) { return static_cast<int>(F / ffn::kChunk) / ffn::UnitChunks(F); }

Status CheckConfig(const FfnConfig& config, int64_t F) {
  const bool rows_known =
      std::find(std::begin(kFfnTileRows), std::end(kFfnTileRows), config.tile_rows) != std::end(kFfnTileRows);
  const bool sharing_known =
      config.sharing == 1 || ((config.sharing == 2 || config.sharing == 4) && config.tile_rows == 128);
  if (!rows_known || !sharing_known || config.split < 1 || config.split * config.sharing > kMaxCluster) {
    return InvalidArgument("fused feed-forward: no kernel for tile_rows {}, split {}, sharing {}", config.tile_rows,
                           config.split, config.sharing);
  }
  if (config.tile_rows != 128 && ffn::UnitChunks(F) == 1) {
    return InvalidArgument("fused feed-forward: {} hidden units are no multiple of 128: use tile_rows 128", F);
  }
  // A cluster's barrier that a block passes alone waits for its producers, too, which wait for the products.
  if (config.tile_rows != 128 && config.split == 1) {
    return InvalidArgument("fused feed-forward: tiles of {} rows need a split of 2 or more", config.tile_rows);
  }
  if (config.split > Units(F)) {
    return InvalidArgument("fused feed-forward: {} hidden units are not split by {}: use a smaller split", F,
                           config.split);
  }
  const int slice_chunks = ffn::SliceChunks(Units(F), ffn::UnitChunks(F), config.split);
  if (StagesFor(config.tile_rows, slice_chunks, config.split) < LeastStages(config.tile_rows, config.split)) {
    return InvalidArgument("fused feed-forward: slices of {} chunks leave too little shared memory", slice_chunks);
  }
  return Status();
}

// Clusters of that many blocks that run at once on an H200 (cudaOccupancyMaxActiveClusters): its 132 multiprocessors
// come in groups of 16 or 18 and one of 10, which a cluster cannot straddle.
int ClustersAtOnce(int blocks) {
  constexpr int kClusters[] = {132, 66, 39, 30, 22, 17, 15, 15, 9};
  return blocks <= 9 ? kClusters[blocks - 1] : 7;
}

// Microseconds of a block, fitted to launches on an H100 between others that leave neither its code nor its weights in
// a cache: ends and rows; each chunk of 64 hidden units; sums by way of other blocks.
double BlockMicroseconds(const FfnConfig& config, int64_t F) {
  const int chunks = ffn::SliceChunks(Units(F), ffn::UnitChunks(F), config.split);
  if (!ffn::IsNarrow(config.tile_rows)) return 12.9 + 1.45 * chunks * (config.sharing > 1 ? 0.98 : 1);
  return 1.06 + 0.1 * config.tile_rows + 0.9 * chunks + 0.01 * config.split * config.split;
}

}  // namespace

Status FusedFfn::Supports(const FusedFfnWeights& weights) {
  if (weights.D != ffn::kD)
    return Unimplemented("fused feed-forward: model width {}, only 256 is supported", weights.D);
  if (weights.F <= 0 || weights.F % ffn::kChunk != 0 || weights.F > 8192) {
    return Unimplemented("fused feed-forward: {} hidden units, need a multiple of 64 up to 8192", weights.F);
  }
  if (weights.activation == Activation::kNone) return Unimplemented("fused feed-forward: no activation");
  const void* const pointers[] = {weights.w1,         weights.w2,        weights.b1,         weights.b2,
                                  weights.norm_gamma, weights.norm_beta, weights.post_gamma, weights.post_beta};
  for (const void* pointer : pointers) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return Unimplemented("fused feed-forward: misaligned weights");
  }
  int device = 0, major = 0, minor = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  TING_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  TING_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  if (major != 9 || minor != 0) {
    return Unimplemented("fused feed-forward: compute capability {}.{}, needs 9.0 (Hopper)", major, minor);
  }
  return Status();
}

Status FusedFfn::SupportsConfig(const FfnConfig& config, int64_t F) { return CheckConfig(config, F); }

FfnConfig FusedFfn::ChooseConfig(int64_t M, int64_t F) {
  FfnConfig best{128, 1, 1};
  double least = 0;
  for (const int tile_rows : kFfnTileRows) {
    const int64_t tiles = (M + tile_rows - 1) / tile_rows;
    for (int split = 1; split <= kMostSplit; ++split) {
      const int most_sharing = tiles > 1 && split <= 4 ? 2 : 1;  // larger clusters lose more than they save
      for (int sharing = 1; sharing <= most_sharing; ++sharing) {
        const FfnConfig config{tile_rows, split, sharing};
        if (!CheckConfig(config, F).ok()) continue;
        const int64_t clusters = (tiles + sharing - 1) / sharing;
        const int at_once = ClustersAtOnce(split * sharing);
        const double us = static_cast<double>((clusters + at_once - 1) / at_once) * BlockMicroseconds(config, F);
        if (least == 0 || us < least) best = config, least = us;
      }
    }
  }
  return best;
}

Result<FusedFfn> FusedFfn::Create(const FusedFfnWeights& weights) {
  TING_RETURN_IF_ERROR(Supports(weights));
  if (weights.w1 == nullptr || weights.w2 == nullptr) return InvalidArgument("fused feed-forward: no weights");
  if ((weights.norm_gamma == nullptr) != (weights.norm_beta == nullptr) ||
      (weights.post_gamma == nullptr) != (weights.post_beta == nullptr)) {
    return InvalidArgument("fused feed-forward: a norm needs both gamma and beta");
  }
  FusedFfn ffn;
  ffn.weights_ = weights;
  const TmaType type = weights.type == FfnType::kF16 ? TmaType::kF16 : TmaType::kBF16;
  TING_ASSIGN_OR_RETURN(ffn.w1_map_, MakeTensorMap(type, weights.w1, weights.F, weights.D, weights.D, 64, 64));
  TING_ASSIGN_OR_RETURN(ffn.w2_map_, MakeTensorMap(type, weights.w2, weights.D, weights.F, weights.F, 64, 64));
  if (ffn::UnitChunks(weights.F) == 2) {
    TING_ASSIGN_OR_RETURN(ffn.w1_pairs_, MakeTilesMap(type, weights.w1, weights.F, weights.D, 64, 2));
    TING_ASSIGN_OR_RETURN(ffn.w2_pairs_, MakeTilesMap(type, weights.w2, weights.D, weights.F, 64, 2));
  }
  for (const int tile_rows : kFfnTileRows) {
    TING_RETURN_IF_ERROR(AllowShared(ffn::FindKernel(weights.type, weights.activation, tile_rows), kSharedLimit, 16));
  }
  return ffn;
}

Status FusedFfn::Run(const float* x, float* y, int64_t M, const int32_t* num_rows, const FfnConfig& config,
                     cudaStream_t stream, bool dependent) const {
  TING_RETURN_IF_ERROR(CheckConfig(config, weights_.F));
  if (M <= 0) return Status();
  if (x == y) return InvalidArgument("fused feed-forward: y must not be x");
  Arguments arguments{};
  const bool narrow = ffn::IsNarrow(config.tile_rows);
  arguments.w1 = narrow ? w1_pairs_ : w1_map_;
  arguments.w2 = narrow ? w2_pairs_ : w2_map_;
  arguments.b1 = weights_.b1;
  arguments.b2 = weights_.b2;
  arguments.norm_gamma = weights_.norm_gamma;
  arguments.norm_beta = weights_.norm_beta;
  arguments.post_gamma = weights_.post_gamma;
  arguments.post_beta = weights_.post_beta;
  arguments.x = x;
  arguments.y = y;
  arguments.num_rows = num_rows;
  arguments.norm_eps = weights_.norm_eps;
  arguments.post_eps = weights_.post_eps;
  arguments.residual = weights_.residual;
  arguments.rows = static_cast<int>(M);
  arguments.units = Units(weights_.F);
  arguments.unit_chunks = ffn::UnitChunks(weights_.F);
  const int slice_chunks = ffn::SliceChunks(arguments.units, arguments.unit_chunks, config.split);
  arguments.stages = StagesFor(config.tile_rows, slice_chunks, config.split);
  arguments.split = config.split;
  arguments.split_inverse = ffn::InverseOf(config.split);
  arguments.layout = ffn::LayoutOf(config.tile_rows, arguments.stages, slice_chunks, config.split);
  arguments.sharing = config.sharing;
  const int64_t cluster_rows = int64_t{config.tile_rows} * config.sharing;
  LaunchShape shape;
  shape.cluster = config.split * config.sharing;
  shape.grid = dim3(static_cast<unsigned>((M + cluster_rows - 1) / cluster_rows * shape.cluster));
  shape.block = dim3(static_cast<unsigned>(ffn::kThreads));
  shape.shared_bytes = static_cast<uint32_t>(arguments.layout.bytes);
  shape.dependent = dependent;
  return Launch(ffn::FindKernel(weights_.type, weights_.activation, config.tile_rows), shape, stream, arguments);
}

}  // namespace ting::cuda
