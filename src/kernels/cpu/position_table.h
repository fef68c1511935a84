// src/kernels/cpu/position_table.h
// SPDX-License-Identifier: Apache-2.0
//
// What a key's position adds to the scores of rel_attention: the row P_j = Wpos PE(j), which is added to the key,
// and for each head the constant c_j = key_bias . P_j. Both depend on weights alone, so a table is made at load
// and doubled when a longer sequence arrives; there is no longest one. Without positions: a row of zeros.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cpu/packed_matrix.h"

namespace ting::cpu {

struct PositionRows {
  int64_t capacity = 0;
  AlignedBuffer keys;       // [capacity, D], absent without positions
  AlignedBuffer bias;       // [heads or 1, bias_stride]
  int64_t bias_stride = 0;  // 0: the same zeros for each head
};

class PositionTable {
 public:
  // `matrix` and `key_bias` [D] may be absent: no positions.
  PositionTable(const IsaTable& isa, std::unique_ptr<PackedMatrix> matrix, std::vector<float> key_bias, int heads)
      : isa_(isa), matrix_(std::move(matrix)), key_bias_(std::move(key_bias)), heads_(heads) {}
  // Rows for at least `positions` keys; shared, because an older table may still be in use.
  Result<std::shared_ptr<const PositionRows>> Get(int64_t positions);

 private:
  Result<std::shared_ptr<const PositionRows>> Make(int64_t capacity) const;
  Status FillKeys(PositionRows& rows) const;

  const IsaTable& isa_;
  std::unique_ptr<PackedMatrix> matrix_;
  std::vector<float> key_bias_;
  int heads_;
  std::mutex mutex_;
  std::shared_ptr<const PositionRows> rows_;
};

}  // namespace ting::cpu
