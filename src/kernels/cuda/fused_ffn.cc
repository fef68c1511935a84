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

constexpr int kMaxCluster = 16;
// What is chosen: in a chain of kernels larger clusters wait for a place longer than their smaller slices save.
constexpr int kMostSplit = 8;

int StagesFor(int tile_rows, int chunks, int split) {
  const ffn::Form form = ffn::FormOf(tile_rows, split);
  const bool wide = form == ffn::Form::kWide;
  const int step = wide ? 1 : 2;  // slots of the others belong to one warpgroup, which has a producer of its own
  int stages = std::min(ffn::kMaxStages, (wide ? 2 : 4) * chunks);  // no more than are filled
  while (stages > 0 && ffn::LayoutOf(tile_rows, stages, chunks, split).bytes > kHopperSharedBytes) stages -= step;
  return stages;
}
// A kernel must not wait for a stage whose place it still holds. Of split tiles, the sums of half of the columns and
// those received lie in the ring at the end.
int LeastStages(int tile_rows, int split) {
  switch (ffn::FormOf(tile_rows, split)) {
    case ffn::Form::kWide:
      return 2;
    case ffn::Form::kPaired:
      return 8;
    case ffn::Form::kUnsplit:
      return 6;
    default:
      break;
  }
  const int sums = ffn::HalfBytes(tile_rows) + ffn::ReceivedBytes(tile_rows, split);
  constexpr int kStage = ffn::StageBytes(ffn::Form::kSplit);
  return std::max(4, (sums + kStage - 1) / kStage);
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
  if (config.tile_rows < ffn::kUnsplitRows && config.split == 1) {
    return InvalidArgument("fused feed-forward: tiles of {} rows need a split of 2 or more", config.tile_rows);
  }
  if (config.tile_rows == ffn::kUnsplitRows && config.split != 1) {
    return InvalidArgument("fused feed-forward: tiles of {} rows are not split", config.tile_rows);
  }
  if (ffn::FormOf(config.tile_rows, config.split) == ffn::Form::kPaired && F % 256 != 0) {
    return InvalidArgument("fused feed-forward: the halves of {} hidden units are not equal: use other tiles", F);
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

int ClusterBlocks(const FfnConfig& config) {
  return ffn::FormOf(config.tile_rows, config.split) == ffn::Form::kPaired ? 1 : config.split * config.sharing;
}

// Clusters of that many blocks that run at once on an H200 (cudaOccupancyMaxActiveClusters): its 132 multiprocessors
// come in groups of 16 or 18 and one of 10, which a cluster cannot straddle.
int64_t ClustersAtOnce(int blocks) {
  constexpr int kClusters[] = {132, 66, 39, 30, 22, 17, 15, 15, 9};
  return blocks <= 9 ? kClusters[blocks - 1] : 7;
}

// Microseconds by which a launch of at most that many blocks at once moves the end of a step of a model of 2048 hidden
// units, fitted to steps of a U2 model on an H100 with every cut of 124 to 7,936 rows. A chunk is 64 hidden units of a
// slice. Of split tiles, few stages leave the latency of weights uncovered, and large clusters wait for their places.
double WaveMicroseconds(const FfnConfig& config, int64_t blocks, int64_t F) {
  const int chunks = ffn::SliceChunks(Units(F), ffn::UnitChunks(F), config.split);
  switch (ffn::FormOf(config.tile_rows, config.split)) {
    case ffn::Form::kWide:
      if (config.split > 2) return 20 + 0.77 * chunks;
      return 12.9 + (config.split == 1 ? 1.28 : 1.4) * chunks * (config.sharing > 1 ? 0.98 : 1);
    case ffn::Form::kPaired:
      return 8 + 1.5 * chunks;
    case ffn::Form::kUnsplit:
      return 7 + 1.12 * chunks;
    default:
      break;
  }
  const int stages = StagesFor(config.tile_rows, chunks, config.split);
  return 3 + 0.056 * config.tile_rows + 0.52 * chunks + 0.0436 * config.tile_rows * chunks / stages +
         0.0052 * static_cast<double>(blocks) * config.split;
}
double Microseconds(int64_t rows, const FfnConfig& config, int64_t F) {
  constexpr double kOnce = 4.3;  // of a launch, not of each of its waves
  const int64_t tiles = (rows + config.tile_rows - 1) / config.tile_rows;
  const int cluster = ClusterBlocks(config);
  const int64_t clusters = (tiles + config.sharing - 1) / config.sharing, at_once = ClustersAtOnce(cluster);
  const double wave = WaveMicroseconds(config, std::min(clusters, at_once) * cluster, F);
  return wave + static_cast<double>((clusters - 1) / at_once) * (wave - kOnce);
}

}  // namespace

Status FusedFfn::Supports(const FusedFfnWeights& weights) {
  TING_RETURN_IF_ERROR(CheckHalf(weights.type, "fused feed-forward"));
  if (weights.D != ffn::kD)
    return Unimplemented("fused feed-forward: model width {}, only 256 is supported", weights.D);
  if (weights.F <= 0 || weights.F % ffn::kChunk != 0 || weights.F > 8192) {
    return Unimplemented("fused feed-forward: {} hidden units, need a multiple of 64 up to 8192", weights.F);
  }
  if (weights.activation == Activation::kNone) return Unimplemented("fused feed-forward: no activation");
  const void* const pointers[] = {weights.w1,         weights.w2,        weights.b1,         weights.b2,
                                  weights.norm_gamma, weights.norm_beta, weights.post_gamma, weights.post_beta};
  for (const void* pointer : pointers) {
    if (!AlignedTo16(pointer)) return Unimplemented("fused feed-forward: misaligned weights");
  }
  return CheckHopper("fused feed-forward");
}

Status FusedFfn::SupportsConfig(const FfnConfig& config, int64_t F) { return CheckConfig(config, F); }

FfnConfig FusedFfn::ChooseConfig(int64_t M, int64_t F) {
  FfnConfig best{128, 1, 1};
  for (int split = 1; split <= kMostSplit; ++split) {
    const FfnConfig config = ChooseConfigOfSplit(M, F, split);
    if (CheckConfig(config, F).ok() && Microseconds(M, config, F) < Microseconds(M, best, F)) best = config;
  }
  return best;
}
FfnConfig FusedFfn::ChooseConfigOfSplit(int64_t M, int64_t F, int split) {
  FfnConfig best{128, split, 1};
  for (const int tile_rows : kFfnTileRows) {
    const int most_sharing = M > tile_rows && split <= 4 ? 2 : 1;  // larger clusters lose more than they save
    for (int sharing = 1; sharing <= most_sharing; ++sharing) {
      const FfnConfig config{tile_rows, split, sharing};
      if (CheckConfig(config, F).ok() && Microseconds(M, config, F) < Microseconds(M, best, F)) best = config;
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
  TING_ASSIGN_OR_RETURN(ffn.w1_map_, MakeTensorMap(weights.type, weights.w1, weights.F, weights.D, weights.D, 64, 64));
  TING_ASSIGN_OR_RETURN(ffn.w2_map_, MakeTensorMap(weights.type, weights.w2, weights.D, weights.F, weights.F, 64, 64));
  if (ffn::UnitChunks(weights.F) == 2) {
    TING_ASSIGN_OR_RETURN(ffn.w1_pairs_, MakeTilesMap(weights.type, weights.w1, weights.F, weights.D, 64, 2));
    TING_ASSIGN_OR_RETURN(ffn.w2_pairs_, MakeTilesMap(weights.type, weights.w2, weights.D, weights.F, 64, 2));
    TING_ASSIGN_OR_RETURN(ffn.w2_columns_, MakeTilesMap(weights.type, weights.w2, weights.D, weights.F, 128, 1));
  }
  for (const int tile_rows : kFfnTileRows) {
    for (const int split : {2, 3}) {
      TING_RETURN_IF_ERROR(
          AllowShared(ffn::FindKernel(weights.type, weights.activation, tile_rows, split), kHopperSharedBytes, 16));
    }
  }
  return ffn;
}

Status FusedFfn::Run(const float* x, float* y, int64_t M, const int32_t* num_rows, const FfnConfig& config,
                     cudaStream_t stream, bool dependent) const {
  TING_RETURN_IF_ERROR(CheckConfig(config, weights_.F));
  if (M <= 0) return Status();
  if (x == y) return InvalidArgument("fused feed-forward: y must not be x");
  Arguments arguments{};
  const ffn::Form form = ffn::FormOf(config.tile_rows, config.split);
  arguments.w1 = form == ffn::Form::kWide ? w1_map_ : w1_pairs_;
  arguments.w2 = form == ffn::Form::kWide ? w2_map_ : form == ffn::Form::kPaired ? w2_columns_ : w2_pairs_;
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
  shape.cluster = ClusterBlocks(config);
  shape.grid = dim3(static_cast<unsigned>((M + cluster_rows - 1) / cluster_rows * shape.cluster));
  shape.block = dim3(static_cast<unsigned>(ffn::kThreads));
  shape.shared_bytes = static_cast<uint32_t>(arguments.layout.bytes);
  shape.dependent = dependent;
  return Launch(ffn::FindKernel(weights_.type, weights_.activation, config.tile_rows, config.split), shape, stream,
                arguments);
}

}  // namespace ting::cuda
