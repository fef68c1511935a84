// src/tensor/attributes.h
// SPDX-License-Identifier: Apache-2.0
//
// Named constants of a graph node: integers, numbers and words, in a fixed (sorted) order so that a printed
// graph is stable. Getters take the default that the op's contract states.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>

namespace ting {

using Attribute = std::variant<int64_t, double, std::string>;

class Attributes {
 public:
  void Set(std::string name, Attribute value) { values_[std::move(name)] = std::move(value); }
  void Erase(const std::string& name) { values_.erase(name); }
  bool Has(const std::string& name) const { return values_.contains(name); }
  const std::map<std::string, Attribute>& values() const { return values_; }
  bool operator==(const Attributes&) const = default;

  int64_t Int(const std::string& name, int64_t otherwise) const {
    const auto* value = Find<int64_t>(name);
    return value != nullptr ? *value : otherwise;
  }
  // An integer is a number too.
  double Number(const std::string& name, double otherwise) const {
    if (const auto* value = Find<double>(name)) return *value;
    if (const auto* value = Find<int64_t>(name)) return static_cast<double>(*value);
    return otherwise;
  }
  std::string Word(const std::string& name, std::string_view otherwise) const {
    const auto* value = Find<std::string>(name);
    return value != nullptr ? *value : std::string(otherwise);
  }

 private:
  template <typename T>
  const T* Find(const std::string& name) const {
    const auto it = values_.find(name);
    return it == values_.end() ? nullptr : std::get_if<T>(&it->second);
  }
  std::map<std::string, Attribute> values_;
};

}  // namespace ting
