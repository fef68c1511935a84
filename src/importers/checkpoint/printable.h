// src/importers/checkpoint/printable.h
// SPDX-License-Identifier: Apache-2.0
//
// Text of a file as it may appear in a message: control bytes escaped (a name must not steer a terminal) and long
// texts cut.
#pragma once

#include <string>
#include <string_view>

#include "base/format.h"

namespace ting {

inline std::string Printable(std::string_view text, size_t max_bytes = 120) {
  std::string out;
  for (const char c : text.substr(0, max_bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  if (text.size() > max_bytes) out += "…";
  return out;
}

}  // namespace ting
