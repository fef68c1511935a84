// tests/fuzz/engine_file_fuzz.cc
// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as an engine file: contents whose graphs verify and whose weights lie inside the file, or a sentence. A
// checksum would stop nearly every input at the door, so the header's is made right first; the fuzzer reaches what lies
// behind it.
#include <xxhash.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "graph/verifier.h"
#include "runtime/engine_file.h"

namespace {

constexpr size_t kHeaderAt = 64, kHeaderBytesAt = 16, kHashAt = 24;

void RepairHeaderChecksum(std::vector<uint8_t>& file) {
  if (file.size() < kHeaderAt) return;
  uint64_t bytes = 0;
  std::memcpy(&bytes, file.data() + kHeaderBytesAt, sizeof(bytes));
  if (bytes > file.size() - kHeaderAt) return;
  const uint64_t hash = XXH3_64bits(file.data() + kHeaderAt, bytes);
  std::memcpy(file.data() + kHashAt, &hash, sizeof(hash));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> file(data, data + size);
  RepairHeaderChecksum(file);
  const auto contents = ting::ParseEngineFile(std::as_bytes(std::span(file)), "fuzz", nullptr);
  if (!contents.ok()) {
    if (contents.status().message().empty()) std::abort();
    return 0;
  }
  if (!ting::VerifyModule(contents->module).ok()) std::abort();
  volatile uint8_t sum = 0;  // touches every weight's first and last byte: ASan sees what leaves the file
  for (const auto& [name, weight] : contents->module.weights.all()) {
    const auto* bytes = static_cast<const uint8_t*>(weight.view.data);
    if (weight.bytes() > 0) sum = static_cast<uint8_t>(sum + bytes[0] + bytes[weight.bytes() - 1]);
  }
  return 0;
}
