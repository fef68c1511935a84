// src/models/u2/random_checkpoint.h
// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of known architectures with random weights: speed does not depend on the weights, and they are at hand
// everywhere.
#pragma once

#include <string_view>

#include "importers/checkpoint/checkpoint.h"
#include "ting/status.h"

namespace ting {

// "aishell" (conformer, BatchNorm, kernel 15, one decoder of 6 layers) or "u2pp" (causal, LayerNorm, kernel 8, 3 + 3).
Result<Checkpoint> RandomCheckpoint(std::string_view architecture);

}  // namespace ting
