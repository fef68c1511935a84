// src/kernels/cuda/position_keys.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/position_keys.h"

#include <algorithm>
#include <bit>

#include "base/status_macros.h"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_kernels.h"

namespace ting::cuda {
namespace {

constexpr int64_t kLeastCapacity = 512;  // 20 s at a rate of 4

}  // namespace

Result<std::unique_ptr<PositionKeys>> PositionKeys::Create(CudaBackend& backend, const AttentionParams& params,
                                                           std::span<const float> key_bias) {
  const int64_t D = params.D;
  std::unique_ptr<PositionKeys> keys(
      new PositionKeys(HeadType(backend.storage(), params.head_width()), D, params.heads));
  const std::vector<float> matrix = UnpackMatrix(params.pos.weight);
  std::vector<float> transposed(matrix.size());
  for (int64_t n = 0; n < D; ++n) {
    for (int64_t k = 0; k < D; ++k) transposed[k * D + n] = matrix[n * D + k];
  }
  const std::string key = fmt::format("{}", params.pos.weight.data);
  TING_ASSIGN_OR_RETURN(keys->transposed_, backend.Floats(key + ":transposed", transposed));
  TING_ASSIGN_OR_RETURN(keys->key_bias_, backend.Floats(key + ":key_bias", key_bias));
  TING_ASSIGN_OR_RETURN(keys->frequencies_, backend.Floats(fmt::format("frequencies:{}", D), PositionFrequencies(D)));
  return keys;
}

Result<PositionTable> PositionKeys::Get(int64_t length, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  if (table_.capacity >= length) return table_;
  const auto capacity = std::max(kLeastCapacity, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(length))));
  TING_ASSIGN_OR_RETURN(DeviceMemory keys, DeviceMemory::Allocate(capacity * D_ * DTypeSize(type_)));
  TING_ASSIGN_OR_RETURN(DeviceMemory bias, DeviceMemory::Allocate(capacity * heads_ * sizeof(float)));
  TING_RETURN_IF_ERROR(MakePositionTable(type_, transposed_, key_bias_, frequencies_, D_, heads_, capacity, keys.data(),
                                         static_cast<float*>(bias.data()), stream));
  TING_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream));
  table_ = {capacity, keys.data(), static_cast<const float*>(bias.data())};
  memory_.push_back(std::move(keys));
  memory_.push_back(std::move(bias));
  return table_;
}

}  // namespace ting::cuda
