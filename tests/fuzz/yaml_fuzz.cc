// tests/fuzz/yaml_fuzz.cc
// SPDX-License-Identifier: Apache-2.0
//
// train.yaml: no exception leaves the parser, and an accepted configuration keeps the promises of ModelConfig.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "importers/checkpoint/expected_tensors.h"
#include "importers/checkpoint/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config = ting::ParseTrainYaml({reinterpret_cast<const char*>(data), size});
  if (!config.ok()) return 0;
  const ting::EncoderConfig& encoder = config->encoder;
  const bool sound = encoder.output_size % encoder.attention_heads == 0 &&
                     encoder.output_size % config->decoder.attention_heads == 0 && encoder.num_blocks > 0 &&
                     (encoder.causal || !encoder.use_cnn_module || encoder.cnn_module_kernel % 2 == 1) &&
                     config->input_dim == config->features.num_mel_bins &&
                     (config->vocab_size == 0 || config->eos_id < config->vocab_size);
  if (!sound) std::abort();
  (void)ting::FamilyName(*config);
  if (config->vocab_size > 0) (void)ting::ExpectedTensors(*config).ok();
  return 0;
}
