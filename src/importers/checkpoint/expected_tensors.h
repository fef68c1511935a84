// src/importers/checkpoint/expected_tensors.h
// SPDX-License-Identifier: Apache-2.0
//
// The tensors, by WeNet's names, that a model of a given configuration has, and the comparison with a checkpoint.
// WeNet itself loads with strict=false: a missing or misshapen layer is a line in a log there, and an error here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "importers/checkpoint/model_config.h"
#include "importers/checkpoint/state_dict.h"
#include "ting/status.h"

namespace ting {

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// In the order of the forward pass. Without CMVN, which may be in a file instead. config.vocab_size is set.
Result<std::vector<ExpectedTensor>> ExpectedTensors(const ModelConfig& config);

// Every expected tensor is there with its shape and holds floating-point numbers; no other tensor of encoder.*,
// decoder.* or ctc.* is there, except tables and layers that no forward pass uses. Names the first that differs.
Status CheckTensors(const ModelConfig& config, const StateDict& weights);

}  // namespace ting
