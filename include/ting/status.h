// include/ting/status.h
// SPDX-License-Identifier: Apache-2.0
//
// Status and Result<T>: how every fallible call of this library answers.
// A Status is a code and one sentence that says what is wrong and what to do. Callers add context
// on the way up with `WithContext`, so that the user reads "loading model/: final.pt: truncated at byte 7".
// C++20 has no std::expected; this is the small part of it that the library needs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ting {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,     // the caller asked for something that cannot be
  kNotFound,            // a file, key or name does not exist
  kDataLoss,            // bytes are truncated, corrupt or not what they claim to be
  kUnimplemented,       // well formed, but this library does not support it
  kResourceExhausted,   // memory or a stated limit
  kFailedPrecondition,  // right call, wrong moment or wrong object
  kCancelled,
  kUnavailable,  // a device or peer went away
  kInternal,     // a bug in this library
};

const char* StatusCodeName(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same status with "context: " put before its message; OK stays OK.
  Status WithContext(std::string_view context) const {
    if (ok()) return *this;
    return Status(code_, std::string(context) + ": " + message_);
  }
  // "data loss: final.pt: truncated", or "ok".
  std::string ToString() const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// A T or the Status that says why there is none. Accessing the value of a failed Result is a bug of
// the caller and ends the program with the status printed (it is never reachable from input).
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(Status status) : status_(std::move(status)) {}  // NOLINT: implicit on purpose, as in `return status;`
  Result(T value) : value_(std::move(value)) {}          // NOLINT: implicit on purpose, as in `return value;`

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  T& value() & { return Checked(), *value_; }
  const T& value() const& { return Checked(), *value_; }
  T&& value() && { return Checked(), std::move(*value_); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  void Checked() const;
  Status status_;
  std::optional<T> value_;
};

namespace internal {
[[noreturn]] void DieOnBadResult(const Status& status);
}  // namespace internal

template <typename T>
void Result<T>::Checked() const {
  if (!value_.has_value()) internal::DieOnBadResult(status_);
}

}  // namespace ting
