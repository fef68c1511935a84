// src/importers/checkpoint/yaml_section.h
// SPDX-License-Identifier: Apache-2.0
//
// Typed, range-checked reading of nested YAML maps. The first problem is kept in a Status that all sections of one
// document share, and getters answer the default from then on: a reader lists its keys and checks once, at the end.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "ting/status.h"

namespace ting {

class YamlSection {
 public:
  // `status` outlives the section and its children. `node` is a map, or absent.
  YamlSection(YAML::Node node, std::string path, Status* status);

  bool Has(const std::string& key) const;  // present and not null
  YamlSection Child(const std::string& key) const;

  int64_t Int(const std::string& key, int64_t otherwise, int64_t min, int64_t max) const;
  double Number(const std::string& key, double otherwise, double min, double max) const;
  bool Bool(const std::string& key, bool otherwise) const;
  std::string Word(const std::string& key, std::string_view otherwise) const;

  // The word, which must be one of `supported`.
  std::string OneOf(const std::string& key, std::string_view otherwise,
                    std::initializer_list<std::string_view> supported) const;
  // Options that exist in WeNet but of which one value alone is supported.
  void RequireBool(const std::string& key, bool required) const;

  void Fail(Status status) const;  // keeps the first
  std::string PathOf(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }

 private:
  template <typename T>
  bool Convert(const std::string& key, const char* expected, T* value) const;
  void RefuseRepeatedKeys() const;
  YAML::Node Get(const std::string& key) const;

  YAML::Node node_;
  std::string path_;
  Status* status_;
};

}  // namespace ting
