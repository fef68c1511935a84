// src/importers/checkpoint/no_checkpoint.cc
// SPDX-License-Identifier: Apache-2.0
//
// Stands in for checkpoint.cc in minimal builds, which have neither a YAML nor a JSON library.
#include "base/status_macros.h"
#include "importers/checkpoint/checkpoint.h"

namespace ting {

Result<Checkpoint> LoadCheckpoint(const std::string& path) {
  return Unimplemented("{}: this is a minimal build, which reads no checkpoints; build without TING_MINIMAL", path);
}

}  // namespace ting
