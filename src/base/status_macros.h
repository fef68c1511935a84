// src/base/status_macros.h
// SPDX-License-Identifier: Apache-2.0
//
// The two ways of passing a failure up, and short constructors for the common codes.
#pragma once

#include <fmt/core.h>

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

namespace ting {

template <typename... Args>
Status InvalidArgument(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Status NotFound(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kNotFound, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Status DataLoss(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kDataLoss, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Status Unimplemented(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kUnimplemented, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Status ResourceExhausted(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kResourceExhausted, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Status FailedPrecondition(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kFailedPrecondition, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Status Unavailable(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kUnavailable, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Status Internal(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kInternal, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ting
