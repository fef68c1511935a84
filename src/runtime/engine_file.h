// src/runtime/engine_file.h
// SPDX-License-Identifier: Apache-2.0
//
// The engine file: one file with everything that recognition needs, portable between machines.
//
//   0   8 bytes   magic "TINGENG\0"
//   8   u32       format version (1)
//   12  u32       zero
//   16  u64       bytes of the header
//   24  u64       XXH3-64 of the header
//   64  header    JSON: metadata (the model's own), graphs (text form), weights (name, dtype, layout, shape,
//                 offset, bytes, XXH3-64)
//   …   weights   each 64-byte aligned, in the layout that kernels read, so that a mapping is all that loading takes
//
// Integers are little-endian. The file is untrusted: version, sizes, bounds, alignment and checksums are checked
// before anything is used, and the graphs are verified against the weights.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

struct EngineContents {
  std::string metadata;  // JSON text
  Module module;
};

// Writes beside `path` first and renames, so that a failure leaves no half file.
Status WriteEngineFile(const std::string& path, const EngineContents& contents);
// Weights point into the mapping, which they keep alive.
Result<EngineContents> ReadEngineFile(const std::string& path);
// The same for a file in memory: weights point into `bytes` and share `owner`. `name` is for messages.
Result<EngineContents> ParseEngineFile(std::span<const std::byte> bytes, const std::string& name,
                                       std::shared_ptr<const void> owner);
// Is this a file that begins like an engine file?
bool LooksLikeEngineFile(const std::string& path);

}  // namespace ting
