// src/kernels/cuda/row_gemm_tuning.h
// SPDX-License-Identifier: Apache-2.0
//
// row_gemm's configurations as tuning records. Its sums have one order whatever the configuration (row_gemm.h), so
// every record gives the bits of every other, in batch-invariant mode as well.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/cuda/row_gemm.h"
#include "kernels/cuda/tunable.h"
#include "kernels/tuning.h"

namespace ting::cuda {

TuningProduct TuningProductOf(const RowGemmArguments& arguments);
TuningConfig ToTuningConfig(const RowGemmConfig& config);
// The configuration, or that its names and numbers are none. What it says is checked by SupportsRowGemm.
std::optional<RowGemmConfig> RowGemmConfigOf(const TuningConfig& config);

// That can run: tiles of each size in blocks of about equal numbers of columns.
std::vector<RowGemmConfig> RowGemmConfigs(const RowGemmArguments& arguments);

// What the table says for `product`, where that runs; otherwise ChooseRowGemmConfig's.
RowGemmConfig TunedRowGemmConfig(const RowGemmArguments& arguments, const TuningProduct& product, int multiprocessors,
                                 TuningTable& table);

// A product like `arguments`, whose bias and norm are used. Rows and the other pointers come with the call; those here
// say no more than which of x and x_f32 there is, and whether there is a residual.
std::unique_ptr<Tunable> MakeRowGemmTunable(const RowGemmArguments& arguments);

}  // namespace ting::cuda
