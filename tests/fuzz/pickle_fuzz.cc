// tests/fuzz/pickle_fuzz.cc
// SPDX-License-Identifier: Apache-2.0
//
// The unpickler on any bytes. What it accepts must name only values that exist and text inside the input.
#include <cstdint>
#include <cstdlib>

#include "importers/checkpoint/pickle_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto document = ting::PickleDocument::Parse({reinterpret_cast<const std::byte*>(data), size});
  if (!document.ok()) return 0;
  size_t checksum = 0;  // reads every byte, so that the sanitizer sees it
  const auto visit = [&](const ting::PickleValue& value) {
    for (const char c : value.text) checksum += static_cast<unsigned char>(c);
    for (const uint32_t item : value.items) checksum += static_cast<size_t>(document->value(item).kind);
  };
  visit(document->root());
  for (const uint32_t item : document->root().items) visit(document->value(item));
  if (checksum == SIZE_MAX) std::abort();  // keeps the reads
  return 0;
}
