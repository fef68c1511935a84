// src/models/u2/no_u2_engine.cc
// SPDX-License-Identifier: Apache-2.0
//
// Stands in for u2_engine.cc in minimal builds, which have no JSON library.
#include "base/status_macros.h"
#include "models/u2/u2_engine.h"

namespace ting {

Result<U2Model> LoadU2Engine(const std::string& path, std::optional<Precision>) {
  return Unimplemented("{}: this is a minimal build, which reads no engine files; build without TING_MINIMAL", path);
}

Status SaveU2Model(const U2Model&, const std::string& path) {
  return Unimplemented("{}: this is a minimal build, which writes no engine files; build without TING_MINIMAL", path);
}

}  // namespace ting
