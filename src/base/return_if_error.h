// src/base/return_if_error.h
// SPDX-License-Identifier: Apache-2.0
//
// The two ways of passing a failure up. Apart from status_macros.h because nvcc cannot compile what that needs of fmt.
#pragma once

#include <utility>

#include "ting/status.h"

#define TING_CONCAT_INNER(a, b) a##b
#define TING_CONCAT(a, b) TING_CONCAT_INNER(a, b)

#define TING_RETURN_IF_ERROR(expr)                                                  \
  do {                                                                              \
    if (::ting::Status ting_status = (expr); !ting_status.ok()) return ting_status; \
  } while (false)

// TING_ASSIGN_OR_RETURN(auto x, MakeX());
#define TING_ASSIGN_OR_RETURN(lhs, expr) TING_ASSIGN_OR_RETURN_IMPL(TING_CONCAT(ting_result_, __LINE__), lhs, expr)
#define TING_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                               \
  if (!result.ok()) return result.status();           \
  lhs = std::move(result).value()
