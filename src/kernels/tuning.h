// src/kernels/tuning.h
// SPDX-License-Identifier: Apache-2.0
//
// Tuning records: the configuration of a kernel that measured fastest for a product and a number of rows on one
// machine. A kernel with choices asks the table of its device first and falls back to its own chooser, so that records
// are never needed and never change what is computed. They may come from a file: a kernel checks a configuration as it
// checks every other one, and has the table ignore what it cannot run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

namespace ting {

// What is multiplied, but for the number of rows.
struct TuningProduct {
  std::string op;    // the kernel that has the choice: "row_gemm", "fused_ffn", "cublaslt"
  std::string type;  // of the operands: "f32", "tf32", "f16", "bf16"
  int64_t N = 0, K = 0;
  std::string form;  // what stands before and after the product: "norm half swish"

  auto operator<=>(const TuningProduct&) const = default;
  std::string ToString() const;  // "row_gemm f16 [768, 256] norm half"
};

// A configuration as names and numbers; the kernel of the product's op gives them their meaning. None at all: the
// kernel's own choice.
using TuningConfig = std::map<std::string, int64_t>;

struct TuningRecord {
  TuningProduct product;
  int64_t rows = 0;  // as the device pads them
  TuningConfig config;
  double us = 0;             // of one launch
  double unrecorded_us = 0;  // of one launch as the kernel chooses without a record
};

// What is to be measured.
struct TuningRequest {
  std::vector<int64_t> rows;                                 // empty: every size that steps are padded to, up to 16,384
  std::function<void(const TuningRecord& record)> progress;  // told of each record; may be empty
};

// The machine for which measurements hold.
struct HardwareName {
  std::string device, capability, driver;  // "NVIDIA H200", "9.0", "580.159.04"
  bool operator==(const HardwareName&) const = default;
};

// Any number of threads may call.
class TuningTable {
 public:
  void Put(TuningRecord record);
  std::optional<TuningConfig> Find(const TuningProduct& product, int64_t rows) const;
  // Drops a record that its kernel cannot use, with a note.
  void Ignore(const TuningProduct& product, int64_t rows, const std::string& reason);

  std::vector<TuningRecord> Records() const;
  void Clear();
  // Who is told of what is ignored; nobody at first.
  void SetNote(std::function<void(const std::string& note)> note);

 private:
  mutable std::shared_mutex mutex_;
  std::map<TuningProduct, std::map<int64_t, TuningRecord>> records_;  // by rows
  std::function<void(const std::string&)> note_;
};

// The value of `name`, if it is there and from `least` to `most`.
std::optional<int> ConfigValue(const TuningConfig& config, const std::string& name, int64_t least, int64_t most);

}  // namespace ting
