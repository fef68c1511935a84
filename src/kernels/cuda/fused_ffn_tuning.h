// src/kernels/cuda/fused_ffn_tuning.h
// SPDX-License-Identifier: Apache-2.0
//
// The fused feed-forward's cuts as tuning records. The bits of its results depend on `split`: where they must not
// depend on the batch, only cuts of one split are candidates, and records of another are ignored.
#pragma once

#include <memory>
#include <optional>

#include "kernels/cuda/fused_ffn.h"
#include "kernels/cuda/tunable.h"
#include "kernels/tuning.h"

namespace ting::cuda {

// `split`: the only one that may run; none: each.
TuningProduct TuningProductOf(const FusedFfnWeights& weights, std::optional<int> split);
TuningConfig ToTuningConfig(const FfnConfig& config);
std::optional<FfnConfig> FfnConfigOf(const TuningConfig& config);

// What the table says for `product`, where that runs and has the split asked for; otherwise `chosen`.
FfnConfig TunedFfnConfig(const TuningProduct& product, int64_t rows, const FfnConfig& chosen, std::optional<int> split,
                         TuningTable& table);

// `chooser`: the layer's cut without a record.
std::unique_ptr<Tunable> MakeFusedFfnTunable(const FusedFfnWeights& weights, std::optional<int> split,
                                             FfnConfig (*chooser)(int64_t rows, int64_t F));

}  // namespace ting::cuda
