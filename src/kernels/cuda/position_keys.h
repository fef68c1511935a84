// src/kernels/cuda/position_keys.h
// SPDX-License-Identifier: Apache-2.0
//
// What a key's position adds to the scores of rel_attention, as tables in device memory: P_j = Wpos PE(j), which is
// added to the key, and for each head the constant key_bias . P_j. Both depend on weights alone. A table is made when
// the node first runs and doubled when a longer sequence arrives; older ones stay, because recorded steps hold their
// addresses.
#pragma once

#include <mutex>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cuda/cuda_backend.h"
#include "ting/status.h"

namespace ting::cuda {

struct PositionTable {
  int64_t capacity = 0;
  const void* keys = nullptr;   // [capacity, D] of the heads' type
  const float* bias = nullptr;  // [capacity, heads]
};

class PositionKeys {
 public:
  // `key_bias` [D]: (v - u) / sqrt(head width).
  static Result<std::unique_ptr<PositionKeys>> Create(CudaBackend& backend, const AttentionParams& params,
                                                      std::span<const float> key_bias);
  // At least `length` rows, ready for any stream. May make a new table: not while a step is being recorded, and none is
  // needed then, because the step has run before.
  Result<PositionTable> Get(int64_t length, cudaStream_t stream);

 private:
  PositionKeys(DType type, int64_t D, int heads) : type_(type), D_(D), heads_(heads) {}

  DType type_;  // of the keys
  int64_t D_;
  int heads_;
  const float* transposed_ = nullptr;  // Wpos^T [D, D]
  const float* key_bias_ = nullptr;
  const float* frequencies_ = nullptr;
  std::mutex mutex_;
  PositionTable table_;
  std::vector<DeviceMemory> memory_;  // every table so far
};

// keys and bias of positions [0, count).
Status MakePositionTable(DType type, const float* transposed, const float* key_bias, const float* frequencies,
                         int64_t D, int heads, int64_t count, void* keys, float* bias, cudaStream_t stream);

}  // namespace ting::cuda
