// src/kernels/cuda/fused_head.cc
// SPDX-License-Identifier: Apache-2.0
//
// Host side of fused_head.h: what can run, how the work is cut, the launches.
#include "kernels/cuda/fused_head.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/carver.h"
#include "kernels/cuda/fused_head_parameters.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {

namespace head {
extern template Kernel FindKernel<__half>(int64_t K, int row_groups, int64_t k);
extern template Kernel FindKernel<__nv_bfloat16>(int64_t K, int row_groups, int64_t k);
}  // namespace head

namespace {

using head::Parameters;

constexpr int kSharedAlign = 1024;
constexpr int64_t kMaxKeptBytes = int64_t{144} << 20;

int64_t Groups(int64_t V) { return int64_t{head::Segments(V)} * head::kSegmentGroups; }

head::Kernel KernelFor(const FusedHeadWeights& weights, int row_groups, int64_t k) {
  return weights.type == DType::kF16 ? head::FindKernel<__half>(weights.K, row_groups, k)
                                     : head::FindKernel<__nv_bfloat16>(weights.K, row_groups, k);
}

Status CheckConfig(const FusedHeadConfig& config, const FusedHeadWeights& weights) {
  const bool groups_known = config.row_groups >= 1 && config.row_groups <= (weights.K == 256 ? 3 : 1);
  const bool sharing_known = config.sharing == 1 || config.sharing == 2;
  const bool splits_fit =
      config.splits >= FusedHead::LeastSplits(weights.V) && config.splits <= head::Segments(weights.V);
  if (groups_known && sharing_known && splits_fit) return Status();
  return InvalidArgument("fused head: no kernel for row_groups {}, splits {}, sharing {} of [{}, {}]",
                         config.row_groups, config.splits, config.sharing, weights.V, weights.K);
}

// Where a call's workspace lies.
struct Workspace {
  float2* sums;
  head::Group* groups;
  float* kept;
  void* rounded;
};
Workspace CarveTopK(Carver& carver, int64_t M, int64_t V) {
  Workspace workspace{};
  workspace.sums = carver.Take<float2>(M * head::Segments(V));
  workspace.groups = carver.Take<head::Group>(M * Groups(V));
  workspace.kept = carver.Take<float>(M * Groups(V) * head::kGroup);
  return workspace;
}
Workspace CarveTargets(Carver& carver, int64_t M, int64_t V, int64_t K) {
  Workspace workspace{};
  workspace.sums = carver.Take<float2>(M * head::Segments(V));
  workspace.rounded = carver.Take(M * K * 2);
  return workspace;
}

Parameters MakeParameters(const FusedHeadWeights& weights, const CUtensorMap& w_map, const FusedHeadInput& input,
                          const Workspace& workspace, const FusedHeadConfig& config) {
  Parameters p{};
  p.w = w_map;
  p.x = input.x, p.gamma = weights.gamma, p.beta = weights.beta, p.bias = weights.bias, p.count = input.range.count;
  p.sums = workspace.sums, p.groups = workspace.groups, p.kept = workspace.kept, p.rounded = workspace.rounded;
  p.first_row = static_cast<int>(input.range.first), p.rows = static_cast<int>(input.range.rows);
  p.V = static_cast<int>(weights.V), p.segments = head::Segments(weights.V);
  p.splits = config.splits, p.sharing = config.sharing;
  p.blank = static_cast<int>(weights.blank), p.penalty = input.blank_penalty, p.eps = weights.eps;
  return p;
}

// Of the ring: no more than there are steps, and as many as fit.
int StagesFor(int K, int row_groups, int segments, int k) {
  int stages = std::min(head::kMaxStages, segments * (K / head::kStageK));
  while (kSharedAlign + head::LayoutOf(K, row_groups, stages, segments, k).bytes > kHopperSharedBytes) --stages;
  return stages;
}

// The product; k = 0: for targets.
Status LaunchProduct(const FusedHeadWeights& weights, Parameters parameters, const FusedHeadConfig& config, int64_t k,
                     bool dependent, cudaStream_t stream) {
  const int K = static_cast<int>(weights.K), segments = static_cast<int>(CeilDiv(parameters.segments, config.splits));
  parameters.k = static_cast<int>(k);
  parameters.stages = StagesFor(K, config.row_groups, segments, parameters.k);
  const int64_t row_blocks = CeilDiv(parameters.rows, head::kBlockRows * config.row_groups * config.sharing);
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(row_blocks * config.sharing), static_cast<unsigned>(config.splits));
  shape.block = dim3(static_cast<unsigned>(head::Threads(config.row_groups)));
  shape.shared_bytes = static_cast<uint32_t>(
      kSharedAlign + head::LayoutOf(K, config.row_groups, parameters.stages, segments, parameters.k).bytes);
  shape.cluster = config.sharing;
  shape.dependent = dependent;
  const head::Kernel kernel = KernelFor(weights, config.row_groups, k);
  TING_RETURN_IF_ERROR(AllowShared(kernel, shape.shared_bytes, shape.cluster));
  return Launch(kernel, shape, stream, parameters);
}

}  // namespace

int FusedHead::LeastSplits(int64_t V) { return static_cast<int>(CeilDiv(head::Segments(V), head::kMaxBlockSegments)); }

Status FusedHead::Supports(const FusedHeadWeights& weights) {
  TING_RETURN_IF_ERROR(CheckHalf(weights.type, "fused head"));
  if (weights.K != 256 && weights.K != 512) {
    return Unimplemented("fused head: rows of {} elements, only 256 and 512 are supported", weights.K);
  }
  if (weights.V < 1 || weights.V > (1 << 20)) return Unimplemented("fused head: {} symbols", weights.V);
  for (const void* pointer : {weights.w, static_cast<const void*>(weights.bias),
                              static_cast<const void*>(weights.gamma), static_cast<const void*>(weights.beta)}) {
    if (!AlignedTo16(pointer)) return Unimplemented("fused head: misaligned weights");
  }
  return CheckHopper("fused head");
}

FusedHeadConfig FusedHead::ChooseConfig(int64_t M, int64_t V, int64_t K) {
  // Microseconds of a block without a segment and of a segment, by warpgroups: between those of the k best and those of
  // targets (H100). In whole rounds of the device. Sharing, which spares L2, measured about 1 us slower at every size
  // (tests/kernels/cuda/fused_head_bench.cc, H200).
  constexpr double kFixed[] = {4, 4.5, 7.5}, kPerSegment[] = {1.7, 2.2, 2.9};
  constexpr int64_t kMultiprocessors = 132;
  FusedHeadConfig best;
  double least = 0;
  for (const int row_groups : {1, 2, 3}) {
    if (row_groups > 1 && K != 256) continue;
    const int64_t tiles = CeilDiv(M, head::kBlockRows * row_groups);
    const double segment = kPerSegment[row_groups - 1] * static_cast<double>(K) / 256;
    for (int splits = LeastSplits(V); splits <= head::Segments(V); ++splits) {
      const double us = static_cast<double>(CeilDiv(tiles * splits, kMultiprocessors)) *
                        (kFixed[row_groups - 1] + segment * static_cast<double>(CeilDiv(head::Segments(V), splits)));
      if (least == 0 || us < least) best = {row_groups, splits, 1}, least = us;
    }
  }
  return best;
}

Result<FusedHead> FusedHead::Create(const FusedHeadWeights& weights) {
  TING_RETURN_IF_ERROR(Supports(weights));
  if (weights.w == nullptr) return InvalidArgument("fused head: no weights");
  if ((weights.gamma == nullptr) != (weights.beta == nullptr)) {
    return InvalidArgument("fused head: a norm needs both gamma and beta");
  }
  FusedHead head;
  head.weights_ = weights;
  TING_ASSIGN_OR_RETURN(head.w_map_,
                        MakeTensorMap(weights.type, weights.w, weights.V, weights.K, weights.K, head::kSegment, 64));
  return head;
}

int64_t FusedHead::MaxTopKRows() const {
  constexpr int64_t kUnit = 2 * 2 * head::kBlockRows;
  const int64_t row_bytes = Groups(weights_.V) * head::kGroup * static_cast<int64_t>(sizeof(float));
  return std::max(kMaxKeptBytes / row_bytes / kUnit, int64_t{1}) * kUnit;
}

size_t FusedHead::TopKBytes(int64_t M) const {
  Carver carver(nullptr);
  CarveTopK(carver, M, weights_.V);
  return carver.used();
}
size_t FusedHead::TargetBytes(int64_t M) const {
  Carver carver(nullptr);
  CarveTargets(carver, M, weights_.V, weights_.K);
  return carver.used();
}

Status FusedHead::TopK(const FusedHeadInput& input, int64_t k, float* logp, int32_t* ids, const FusedHeadConfig& config,
                       std::byte* workspace, cudaStream_t stream, bool dependent) const {
  TING_RETURN_IF_ERROR(CheckConfig(config, weights_));
  if (k < 1 || k > kMaxK) return InvalidArgument("fused head: the {} best; it takes 1 to {}", k, kMaxK);
  if (input.range.rows == 0) return Status();
  if (input.range.rows > MaxTopKRows()) {
    return InvalidArgument("fused head: {} rows at once, more than {}", input.range.rows, MaxTopKRows());
  }
  Carver carver(workspace);
  const Parameters p = MakeParameters(weights_, w_map_, input, CarveTopK(carver, input.range.rows, weights_.V), config);
  TING_RETURN_IF_ERROR(LaunchProduct(weights_, p, config, k, dependent, stream));
  return head::LaunchFinishTopK(
      {p.sums, p.groups, p.kept, p.count, logp, ids, p.first_row, p.rows, p.V, p.segments, static_cast<int>(k)},
      dependent, stream);
}

Status FusedHead::Targets(const FusedHeadInput& input, const FusedHeadTargets& targets, float* logp,
                          const FusedHeadConfig& config, std::byte* workspace, cudaStream_t stream,
                          bool dependent) const {
  TING_RETURN_IF_ERROR(CheckConfig(config, weights_));
  if (input.range.first != 0 || targets.range.first != 0) return Internal("fused head: targets of a part of the rows");
  if (input.range.rows == 0 || targets.range.rows == 0) return Status();
  Carver carver(workspace);
  const Parameters p =
      MakeParameters(weights_, w_map_, input, CarveTargets(carver, input.range.rows, weights_.V, weights_.K), config);
  TING_RETURN_IF_ERROR(LaunchProduct(weights_, p, config, 0, dependent, stream));
  const head::TargetParameters finish{p.sums,
                                      p.rounded,
                                      weights_.w,
                                      p.bias,
                                      p.count,
                                      targets.rows,
                                      targets.ids,
                                      targets.range.count,
                                      logp,
                                      p.rows,
                                      static_cast<int>(targets.range.rows),
                                      p.V,
                                      static_cast<int>(weights_.K),
                                      p.segments,
                                      p.blank,
                                      p.penalty};
  return head::LaunchFinishTargets(weights_.type, finish, dependent, stream);
}

}  // namespace ting::cuda
