// tests/fuzz/checkpoint_fuzz.cc
// SPDX-License-Identifier: Apache-2.0
//
// A whole checkpoint file: zip directory, unpickler and tensors. Every tensor that is accepted must be readable.
#include <cstdint>
#include <cstdlib>

#include "importers/checkpoint/state_dict.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto dict = ting::StateDict::Parse({reinterpret_cast<const std::byte*>(data), size}, nullptr);
  if (!dict.ok()) return 0;
  for (const std::string& name : dict->names()) {
    const ting::TensorEntry* entry = dict->Find(name);
    if (entry == nullptr || entry->num_elements < 0) std::abort();
    const auto values = dict->ReadF32(name);
    if (values.ok() && values->size() != static_cast<size_t>(entry->num_elements)) std::abort();
  }
  return dict->num_parameters() < 0 ? -1 : 0;
}
