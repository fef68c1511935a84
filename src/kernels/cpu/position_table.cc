// src/kernels/cpu/position_table.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/position_table.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/rows_job.h"

namespace ting::cpu {

constexpr int64_t kFirstCapacity = 256;  // ten seconds of a model with 40 ms frames

Result<std::shared_ptr<const PositionRows>> PositionTable::Get(int64_t positions) {
  std::lock_guard lock(mutex_);
  if (rows_ == nullptr || rows_->capacity < positions) {
    int64_t capacity = rows_ == nullptr ? kFirstCapacity : rows_->capacity;
    while (capacity < positions) capacity *= 2;
    TING_ASSIGN_OR_RETURN(rows_, Make(capacity));
  }
  return rows_;
}

Status PositionTable::FillKeys(PositionRows& rows) const {
  const int64_t D = matrix_->N();
  TING_ASSIGN_OR_RETURN(rows.keys, AlignedBuffer::Allocate(static_cast<size_t>(rows.capacity * D) * sizeof(float)));
  constexpr int64_t kBlock = 64;
  std::vector<float> sinusoids(kBlock * D);
  TING_ASSIGN_OR_RETURN(AlignedBuffer prepared, AlignedBuffer::Allocate(kBlock * matrix_->row_bytes()));
  for (int64_t first = 0; first < rows.capacity; first += kBlock) {
    for (int64_t i = 0; i < kBlock; ++i) PositionRow(first + i, D, sinusoids.data() + i * D);
    PrepareRows(isa_, sinusoids.data(), D, Norm{}, kBlock, D, matrix_->mode(), prepared.data(), matrix_->row_bytes());
    GemmArgs g = matrix_->Product(prepared.data(), matrix_->row_bytes(), kBlock);
    g.c = rows.keys.as<float>() + first * D, g.c_row_bytes = D * 4;
    isa_.gemm(g);
  }
  return {};
}

Result<std::shared_ptr<const PositionRows>> PositionTable::Make(int64_t capacity) const {
  auto rows = std::make_shared<PositionRows>();
  rows->capacity = capacity;
  const bool relative = matrix_ != nullptr;
  const int64_t stride = capacity + kPanelWidth;
  rows->bias_stride = relative ? stride : 0;
  const size_t bytes = static_cast<size_t>(stride * (relative ? heads_ : 1)) * sizeof(float);
  TING_ASSIGN_OR_RETURN(rows->bias, AlignedBuffer::Allocate(bytes));
  std::memset(rows->bias.data(), 0, bytes);
  if (!relative) return std::shared_ptr<const PositionRows>(std::move(rows));
  TING_RETURN_IF_ERROR(FillKeys(*rows));
  const int64_t D = matrix_->N(), Dh = D / heads_;
  for (int64_t j = 0; j < capacity; ++j) {
    const float* key = rows->keys.as<float>() + j * D;
    for (int64_t h = 0; h < heads_; ++h) {
      double sum = 0;
      for (int64_t d = h * Dh; d < (h + 1) * Dh; ++d) sum += static_cast<double>(key_bias_[d]) * key[d];
      rows->bias.as<float>()[h * stride + j] = static_cast<float>(sum);
    }
  }
  return std::shared_ptr<const PositionRows>(std::move(rows));
}

}  // namespace ting::cpu
