// src/models/u2/u2_model.h
// SPDX-License-Identifier: Apache-2.0
//
// A U2 / U2++ model ready to run: what it is, its tokens and its optimised, packed graphs. Comes from a checkpoint
// directory (imported, optimised and packed on the spot) or from an engine file (mapped as it is).
#pragma once

#include <string>

#include "graph/graph.h"
#include "passes/pass_manager.h"
#include "text/token_table.h"
#include "ting/recognizer.h"
#include "ting/status.h"

namespace ting {

struct U2Model {
  ModelInfo info;
  int frame_length_ms = 25;
  std::string subsampling;          // `kind` of op subsample_conv2d
  double default_ctc_weight = 0.5;  // WeNet's published decoding settings for the family
  double default_reverse_weight = 0.0;
  TokenTable tokens;
  Module module;
};

// `path`: an engine file, a checkpoint (LoadCheckpoint), or "random:ARCHITECTURE" (random_checkpoint.h).
// `precision`: none keeps an engine file's own, and is f32 for a checkpoint. CheckPrecision says what
// an engine file cannot become. kBF16 becomes int16; `info` says so.
Result<U2Model> LoadU2Model(const std::string& path, std::optional<Precision> precision, const PassOptions& passes,
                            std::vector<PassTime>* pass_times);
inline Result<U2Model> LoadU2Model(const std::string& path, std::optional<Precision> precision) {
  return LoadU2Model(path, precision, {}, nullptr);
}
// The same for a device: a GPU takes the weights as the file has them and converts them on the way to its memory.
// kBF16, and an int16 file without a precision asked for, become f16 or bf16x1 there. What bf16 has become, and why, is
// told by options.note, too.
Result<U2Model> LoadU2ModelFor(const RecognizerOptions& options, const std::string& path);
// Weights that the file has rounded do not become finer again.
Status CheckPrecision(const U2Model& model, Precision asked, const std::string& path);
Status SaveU2Model(const U2Model& model, const std::string& path);

}  // namespace ting
