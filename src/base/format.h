// src/base/format.h
// SPDX-License-Identifier: Apache-2.0
//
// fmt::format and fmt::format_string. Minimal builds (TING_MINIMAL in CMake) take them from the standard library where
// that has <format> (g++ 13, clang 17 with its own library); everything else takes them from fmt, since g++ 12 has
// none.
#pragma once

#ifdef TING_STD_FORMAT
#include <format>

namespace fmt {
using std::format;
using std::format_string;
}  // namespace fmt
#else
#include <fmt/core.h>
#endif
