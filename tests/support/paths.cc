// tests/support/paths.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/paths.h"

#include <cstdlib>
#include <filesystem>

namespace ting::testing {
namespace {

std::filesystem::path SharedRoot() {
  if (const char* root = std::getenv("TING_SHARED"); root != nullptr && *root != '\0') return root;
  return std::filesystem::path(TING_SOURCE_DIR) / ".." / "shared";
}

}  // namespace

std::string SourcePath(const std::string& relative) {
  return (std::filesystem::path(TING_SOURCE_DIR) / relative).string();
}

bool HasShared() { return std::filesystem::is_directory(SharedRoot() / "golden"); }

std::string SharedPath(const std::string& relative) { return (SharedRoot() / relative).string(); }

}  // namespace ting::testing
