// src/kernels/tuning.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/tuning.h"

#include <mutex>
#include <utility>

#include "base/format.h"

namespace ting {

std::string TuningProduct::ToString() const { return fmt::format("{} {} [{}, {}] {}", op, type, N, K, form); }

void TuningTable::Put(TuningRecord record) {
  const std::unique_lock lock(mutex_);
  TuningRecord& place = records_[record.product][record.rows];
  place = std::move(record);
}

std::optional<TuningConfig> TuningTable::Find(const TuningProduct& product, int64_t rows) const {
  const std::shared_lock lock(mutex_);
  const auto of_product = records_.find(product);
  if (of_product == records_.end()) return std::nullopt;
  const auto record = of_product->second.find(rows);
  if (record == of_product->second.end()) return std::nullopt;
  return record->second.config;
}

void TuningTable::Ignore(const TuningProduct& product, int64_t rows, const std::string& reason) {
  std::function<void(const std::string&)> note;
  {
    const std::unique_lock lock(mutex_);
    const auto of_product = records_.find(product);
    if (of_product == records_.end() || of_product->second.erase(rows) == 0) return;  // another thread was told already
    note = note_;
  }
  if (note) note(fmt::format("the tuning record of {} for {} rows is ignored: {}", product.ToString(), rows, reason));
}

std::vector<TuningRecord> TuningTable::Records() const {
  const std::shared_lock lock(mutex_);
  std::vector<TuningRecord> records;
  for (const auto& [product, by_rows] : records_) {
    for (const auto& [rows, record] : by_rows) records.push_back(record);
  }
  return records;
}

void TuningTable::Clear() {
  const std::unique_lock lock(mutex_);
  records_.clear();
}

void TuningTable::SetNote(std::function<void(const std::string&)> note) {
  const std::unique_lock lock(mutex_);
  note_ = std::move(note);
}

std::optional<int> ConfigValue(const TuningConfig& config, const std::string& name, int64_t least, int64_t most) {
  const auto it = config.find(name);
  if (it == config.end() || it->second < least || it->second > most) return std::nullopt;
  return static_cast<int>(it->second);
}

}  // namespace ting
