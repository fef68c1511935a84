// src/base/check.h
// SPDX-License-Identifier: Apache-2.0
//
// Invariants of the library itself. Never reachable from a file, a flag or a socket: those answer with Status.
#pragma once

#include <cstdio>
#include <cstdlib>

#define TING_CHECK(cond, reason)                                                                \
  do {                                                                                          \
    if (!(cond)) {                                                                              \
      std::fprintf(stderr, "%s:%d: check failed: %s: %s\n", __FILE__, __LINE__, #cond, reason); \
      std::abort();                                                                             \
    }                                                                                           \
  } while (false)

#ifdef NDEBUG
#define TING_DCHECK(cond, reason) ((void)0)
#else
#define TING_DCHECK(cond, reason) TING_CHECK(cond, reason)
#endif
