// src/importers/checkpoint/checkpoint.h
// SPDX-License-Identifier: Apache-2.0
//
// A WeNet model directory, read and cross-checked: the one entry of the checkpoint importer.
//   weights  final.pt, else the only *.pt          configuration  train.yaml, else config.yaml
//   units    units.txt, else words.txt, lang_char.txt, dict.txt, dict
//   CMVN     encoder.global_cmvn.* in the weights, else the file that the configuration names (its last path
//            component, in the directory: old configurations hold paths of other machines), else global_cmvn
//   BPE      the file that the configuration names, else the only *.model, *.bpemodel; may be absent
// The vocabulary must have one size in weights, units and configuration; every tensor must have the shape that the
// configuration implies. A mismatch is refused with the name and both numbers.
#pragma once

#include <string>
#include <vector>

#include "importers/checkpoint/model_config.h"
#include "importers/checkpoint/state_dict.h"
#include "text/token_table.h"
#include "ting/status.h"

namespace ting {

enum class CmvnSource { kNone, kCheckpoint, kFile };

struct CheckpointPaths {
  std::string weights, config, units;
  std::string cmvn;       // empty unless cmvn_source is kFile
  std::string bpe_model;  // empty: none
};

struct Checkpoint {
  ModelConfig config;  // vocab_size, sos_id and eos_id are set
  StateDict weights;
  TokenTable tokens;
  CmvnSource cmvn_source = CmvnSource::kNone;  // kNone: the model takes features as they are
  std::vector<float> cmvn_mean, cmvn_istd;     // [input_dim], or empty
  CheckpointPaths paths;
};

// `path` is the directory, or a checkpoint file in it (avg_30.pt).
Result<Checkpoint> LoadCheckpoint(const std::string& path);

}  // namespace ting
