// src/importers/checkpoint/model_config.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/model_config.h"

#include <utility>

#include "base/status_macros.h"

namespace ting {

Status SetVocabSize(int64_t vocab_size, ModelConfig* config) {
  if (vocab_size < 2 || vocab_size > kMaxVocab) {
    return InvalidArgument("{} units; supported are 2 to {}", vocab_size, kMaxVocab);
  }
  if (config->vocab_size != 0 && config->vocab_size != vocab_size) {
    return InvalidArgument("train.yaml says {} units (output_dim), the checkpoint has {}", config->vocab_size,
                           vocab_size);
  }
  config->vocab_size = vocab_size;
  if (config->sos_id < 0) config->sos_id = vocab_size - 1;
  if (config->eos_id < 0) config->eos_id = vocab_size - 1;
  const std::pair<const char*, int64_t> ids[] = {
      {"blank", config->blank_id}, {"<sos>", config->sos_id}, {"<eos>", config->eos_id}};
  for (const auto& [name, id] : ids) {
    if (id >= vocab_size) return InvalidArgument("{} has id {}, but there are only {} units", name, id, vocab_size);
  }
  return {};
}

std::string FamilyName(const ModelConfig& config) {
  const std::string encoder = config.encoder.kind == EncoderKind::kConformer ? "conformer" : "transformer";
  if (config.is_bidirectional()) return "U2++ " + encoder + " (bidirectional decoder)";
  if (config.encoder.use_dynamic_chunk) return "U2 " + encoder;
  return encoder + " (full context)";
}

}  // namespace ting
