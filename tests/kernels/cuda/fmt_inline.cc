// tests/kernels/cuda/fmt_inline.cc
// SPDX-License-Identifier: Apache-2.0
//
// The functions of fmt that the project's libraries call, compiled into the program: it then runs where fmt is not
// installed (its inline functions have the names of the shared library's).
#ifndef TING_STD_FORMAT
#define FMT_HEADER_ONLY 1
#include <fmt/format.h>

namespace ting::cuda {

extern std::string (*const kFormat)(fmt::string_view, fmt::format_args);
std::string (*const kFormat)(fmt::string_view, fmt::format_args) = fmt::vformat;  // used, hence compiled

}  // namespace ting::cuda
#endif
