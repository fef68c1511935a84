// src/kernels/cuda/long_product.cc
// SPDX-License-Identifier: Apache-2.0
//
// Host side of long_product: what can run, how a product is cut, the launch.
#include "kernels/cuda/long_product.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/long_product_kernel.h"

namespace ting::cuda {
namespace {

constexpr int64_t kMaxRows = int64_t{1} << 22;
constexpr LongProductConfig kTiles[] = {{2, 256}, {2, 128}, {1, 128}};
constexpr int kMaxSplit = 3, kTileK = 64;

bool TakesOperands(const RowGemmArguments& a) {
  const bool shape = a.M >= 0 && a.M <= kMaxRows && a.N > 0 && a.K > 512 && a.K % 64 == 0;
  return shape && a.x != nullptr && AlignedTo16(a.x) && a.x_stride % 8 == 0 && a.x_stride >= a.K &&
         AlignedTo16(a.weight);
}
bool TakesOutput(const RowGemmArguments& a) {
  return a.output == RowGemmOutput::kFloat && a.activation == Activation::kNone && a.residual == nullptr &&
         a.scatter.rows == nullptr && AlignedTo16(a.bias) && AlignedTo16(a.y) && a.y_stride % 4 == 0;
}
bool TakesConfig(const RowGemmArguments& a, const LongProductConfig& c) {
  return c.split >= 1 && c.split <= kMaxSplit && longk::FindKernel(a.type, c) != nullptr && a.N % c.columns == 0;
}

// How many clusters run at once. Each lies within one of the device's groups of 16 or 18 multiprocessors; an H100 took
// 31 clusters of four, fewer than this, and 15 of six to eight.
int64_t ClustersTogether(int split, int multiprocessors) {
  return split == 1 ? multiprocessors : std::max(multiprocessors / 16 * (16 / split), 1);
}

// Estimated, in clocks (H100): what the copies or the tensor cores take, and the exchange of sums.
int64_t Clocks(const RowGemmArguments& a, const LongProductConfig& c, int multiprocessors) {
  constexpr int64_t kCopied = 40, kExchanged = 14, kStart = 2500, kMeeting = 2000;  // bytes a clock; clocks
  const int64_t rows = 64 * c.groups, k = CeilDiv(a.K, 64 * c.split) * 64;
  const int64_t copies = k * (rows + c.columns) * 2 / kCopied, products = k * rows * c.columns / 1800;
  const int64_t exchange = c.split == 1 ? 0 : kMeeting + rows * c.columns * 4 * (c.split - 1) / c.split / kExchanged;
  const int64_t clusters = CeilDiv(a.M, rows) * (a.N / c.columns);
  const int64_t waves = CeilDiv(clusters, ClustersTogether(c.split, multiprocessors));
  return waves * (kStart + std::max(copies, products) + exchange);
}

template <int kGroups, int kColumns>
Status MakeLaunch(const RowGemmArguments& a, int split, longk::Parameters& p, LaunchShape& shape) {
  using L = longk::Layout<kGroups, kColumns>;
  TING_ASSIGN_OR_RETURN(p.x, MakeTilesMap(a.type, a.x, a.M, a.K, a.x_stride, L::kRows, L::kTilesX));
  TING_ASSIGN_OR_RETURN(p.w, MakeTensorMap(a.type, a.weight, a.N, a.K, a.K, kColumns, kTileK));
  shape.grid = dim3(static_cast<unsigned>(CeilDiv(a.M, L::kRows) * split), static_cast<unsigned>(a.N / kColumns));
  shape.block = L::kThreads, shape.shared_bytes = L::kBytes;
  return Status();
}

Status MakeLaunch(const RowGemmArguments& a, const LongProductConfig& c, longk::Parameters& p, LaunchShape& shape) {
  if (c.groups == 1) return MakeLaunch<1, 128>(a, c.split, p, shape);
  return c.columns == 128 ? MakeLaunch<2, 128>(a, c.split, p, shape) : MakeLaunch<2, 256>(a, c.split, p, shape);
}

}  // namespace

LongProductConfig ChooseLongProduct(const RowGemmArguments& a, int multiprocessors) {
  LongProductConfig best{1, 128, 1};
  for (LongProductConfig config : kTiles) {
    if (a.N % config.columns != 0) continue;
    for (config.split = 1; config.split <= kMaxSplit; ++config.split) {
      if (Clocks(a, config, multiprocessors) < Clocks(a, best, multiprocessors)) best = config;
    }
  }
  return best;
}

bool PrefersLongProduct(const RowGemmArguments& a) {
  constexpr int64_t kLeastRows = 512;  // up to here row_gemm's split of eight fills the device
  return a.M > kLeastRows;
}

Status SupportsLongProduct(const RowGemmArguments& a) { return SupportsLongProduct(a, {1, 128, 1}); }

Status SupportsLongProduct(const RowGemmArguments& a, const LongProductConfig& c) {
  TING_RETURN_IF_ERROR(CheckHopper("long_product"));
  TING_RETURN_IF_ERROR(CheckHalf(a.type, "long_product"));
  if (!TakesOperands(a) || !TakesOutput(a)) {
    return Unimplemented("long_product: [{}, {}] x [{}], or what is to become of it", a.M, a.K, a.N);
  }
  if (TakesConfig(a, c)) return Status();
  return InvalidArgument("long_product: no kernel of {} groups, {} columns, split {} for {} columns", c.groups,
                         c.columns, c.split, a.N);
}

Status LongProduct(const RowGemmArguments& a, const LongProductConfig& c, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(SupportsLongProduct(a, c));
  if (a.M == 0) return Status();
  longk::Parameters p{};
  LaunchShape shape;
  TING_RETURN_IF_ERROR(MakeLaunch(a, c, p, shape));
  p.bias = a.bias, p.y = static_cast<float*>(a.y), p.num_rows = a.num_rows, p.y_stride = a.y_stride;
  p.M = static_cast<int>(a.M), p.K = static_cast<int>(a.K), p.split = c.split, p.scale = a.scale;
  shape.cluster = c.split;
  shape.dependent = a.dependent;
  const longk::Function kernel = longk::FindKernel(a.type, c);
  TING_RETURN_IF_ERROR(AllowShared(kernel, shape.shared_bytes, shape.cluster));
  return Launch(kernel, shape, stream, p);
}

}  // namespace ting::cuda
