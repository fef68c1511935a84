// src/importers/checkpoint/yaml_section.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/yaml_section.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/status_macros.h"
#include "importers/checkpoint/printable.h"

namespace ting {

YamlSection::YamlSection(YAML::Node node, std::string path, Status* status)
    : node_(std::move(node)), path_(std::move(path)), status_(status) {
  if (!node_.IsDefined() || node_.IsNull()) {
    node_.reset(YAML::Node(YAML::NodeType::Map));
  } else if (!node_.IsMap()) {
    Fail(InvalidArgument("{} is not a map of keys to values", path_.empty() ? "the file" : path_));
    node_.reset(YAML::Node(YAML::NodeType::Map));
  }
  RefuseRepeatedKeys();
}

// yaml-cpp answers the first of two equal keys, Python the last: neither is a good guess.
void YamlSection::RefuseRepeatedKeys() const {
  std::set<std::string> seen;
  for (const auto& entry : node_) {
    if (entry.first.IsScalar() && !seen.insert(entry.first.Scalar()).second) {
      Fail(InvalidArgument("{} is given twice", Printable(PathOf(entry.first.Scalar()))));
    }
  }
}

YAML::Node YamlSection::Get(const std::string& key) const {
  const YAML::Node& node = node_;  // const: operator[] would otherwise add the key
  return node[key];
}

bool YamlSection::Has(const std::string& key) const {
  const YAML::Node value = Get(key);
  return value.IsDefined() && !value.IsNull();
}

YamlSection YamlSection::Child(const std::string& key) const {
  return {Has(key) ? Get(key) : YAML::Node(YAML::NodeType::Map), PathOf(key), status_};
}

template <typename T>
bool YamlSection::Convert(const std::string& key, const char* expected, T* value) const {
  if (!Has(key)) return false;
  const YAML::Node node = Get(key);
  if (node.IsScalar() && YAML::convert<T>::decode(node, *value)) return true;
  Fail(InvalidArgument("{} must be {}{}", PathOf(key), expected,
                       node.IsScalar() ? ", not " + Printable(node.Scalar()) : ", not a list or a map"));
  return false;
}

int64_t YamlSection::Int(const std::string& key, int64_t otherwise, int64_t min, int64_t max) const {
  int64_t value = 0;
  if (!Convert(key, "a whole number", &value)) return otherwise;
  if (value >= min && value <= max) return value;
  Fail(InvalidArgument("{} is {}; supported are {} to {}", PathOf(key), value, min, max));
  return otherwise;
}

double YamlSection::Number(const std::string& key, double otherwise, double min, double max) const {
  double value = 0;
  if (!Convert(key, "a number", &value)) return otherwise;
  if (value >= min && value <= max) return value;  // false for NaN
  Fail(InvalidArgument("{} is {}; supported are {} to {}", PathOf(key), value, min, max));
  return otherwise;
}

bool YamlSection::Bool(const std::string& key, bool otherwise) const {
  bool value = false;
  return Convert(key, "true or false", &value) ? value : otherwise;
}

std::string YamlSection::Word(const std::string& key, std::string_view otherwise) const {
  std::string value;
  return Convert(key, "a word", &value) ? value : std::string(otherwise);
}

std::string YamlSection::OneOf(const std::string& key, std::string_view otherwise,
                               std::initializer_list<std::string_view> supported) const {
  std::string word = Word(key, otherwise);
  if (std::find(supported.begin(), supported.end(), word) != supported.end()) return word;
  std::string list;
  for (const std::string_view name : supported) list += (list.empty() ? "" : ", ") + std::string(name);
  Fail(Unimplemented("{} is {}; supported: {}", PathOf(key), Printable(word), list));
  return std::string(*supported.begin());
}

void YamlSection::RequireBool(const std::string& key, bool required) const {
  if (Bool(key, required) != required) {
    Fail(Unimplemented("{} is {}; only {} is supported", PathOf(key), !required, required));
  }
}

void YamlSection::Fail(Status status) const {
  if (status_->ok()) *status_ = std::move(status);
}

}  // namespace ting
