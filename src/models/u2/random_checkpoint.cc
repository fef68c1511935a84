// src/models/u2/random_checkpoint.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/random_checkpoint.h"

#include <cmath>
#include <random>

#include "base/status_macros.h"
#include "importers/checkpoint/expected_tensors.h"

namespace ting {
namespace {

// The configurations of WeNet's AISHELL recipes.
ModelConfig AishellConfig() {
  ModelConfig config;
  config.encoder.num_blocks = 12;
  return config;
}

ModelConfig U2ppConfig() {
  ModelConfig config = AishellConfig();
  config.encoder.cnn_module_kernel = 8;
  config.encoder.causal = config.encoder.use_dynamic_chunk = true;
  config.encoder.cnn_module_norm = ConvNormKind::kLayerNorm;
  config.decoder.kind = DecoderKind::kBitransformer;
  config.decoder.num_blocks = config.decoder.r_num_blocks = 3;
  return config;
}

// Norm weights and variances near 1, matrices such that outputs are about as large as inputs.
std::vector<float> RandomTensor(const ExpectedTensor& tensor, std::mt19937& random) {
  int64_t elements = 1;
  for (const int64_t size : tensor.shape) elements *= size;
  const bool scale =
      tensor.name.ends_with("running_var") || (tensor.shape.size() == 1 && tensor.name.ends_with(".weight"));
  const double spread = tensor.shape.size() > 1
                            ? std::sqrt(3.0 * static_cast<double>(tensor.shape[0]) / static_cast<double>(elements))
                            : 0.2;
  std::vector<float> values(elements);
  for (float& value : values) {
    const double unit = static_cast<double>(random()) * 0x1p-31 - 1;  // [-1, 1), the same on every machine
    value = static_cast<float>(scale ? 1 + 0.4 * unit : spread * unit);
  }
  return values;
}

Result<TokenTable> NumberedTokens(int64_t count) {
  std::string units = "<blank> 0\n<unk> 1\n";
  for (int64_t i = 2; i < count - 1; ++i) units += fmt::format("t{} {}\n", i, i);
  return TokenTable::Parse(units + fmt::format("<sos/eos> {}\n", count - 1));
}

}  // namespace

Result<Checkpoint> RandomCheckpoint(std::string_view architecture) {
  if (architecture != "aishell" && architecture != "u2pp") {
    return InvalidArgument("no architecture is named {}; use aishell or u2pp", architecture);
  }
  Checkpoint checkpoint;
  checkpoint.config = architecture == "aishell" ? AishellConfig() : U2ppConfig();
  TING_RETURN_IF_ERROR(SetVocabSize(4233, &checkpoint.config));
  TING_ASSIGN_OR_RETURN(const auto tensors, ExpectedTensors(checkpoint.config));
  std::mt19937 random(1);
  for (const ExpectedTensor& tensor : tensors) {
    checkpoint.weights.Add(tensor.name, tensor.shape, RandomTensor(tensor, random));
  }
  TING_ASSIGN_OR_RETURN(checkpoint.tokens, NumberedTokens(checkpoint.config.vocab_size));
  return checkpoint;
}

}  // namespace ting
