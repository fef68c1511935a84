// include/ting/tuning.h
// SPDX-License-Identifier: Apache-2.0
//
// Tuning: measures the ways in which a GPU's kernels can run the products of a model on this machine, once. Loading the
// model here then finds the records, unless RecognizerOptions say otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ting/options.h"
#include "ting/status.h"

namespace ting {

// One product with one number of rows. The text of a configuration is for people.
struct TunedProduct {
  std::string product;  // "row_gemm f16 [768, 256] norm half"
  int64_t rows = 0;
  std::string config;        // empty: the kernel's own choice stands
  double us = 0;             // of one launch
  double unrecorded_us = 0;  // of one launch as the kernel chooses by itself
};

struct TuneOptions {
  std::vector<int64_t> rows;  // encoder or decoder rows of a step; empty: every size that steps are padded to
  std::function<void(const TunedProduct& product)> progress;  // may be empty
};

struct TuneReport {
  std::string file;      // that the records are in
  int num_measured = 0;  // products times numbers of rows
  int num_records = 0;   // of them that beat the kernel's own choice
  double seconds = 0;
};

// `model` as BenchmarkStages takes it. Records of the file that were not measured anew stay in it.
Result<TuneReport> TuneModel(const std::string& model, const RecognizerOptions& options, const TuneOptions& tune);

}  // namespace ting
