// src/kernels/attribute_reader.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attribute_reader.h"

#include <cmath>

#include "base/status_macros.h"

namespace ting {
namespace {

Status WrongType(const OpDesc& desc, const std::string& name, const char* expected) {
  return InvalidArgument("node {} ({}): attribute {} must be {}", desc.node, desc.op, name, expected);
}

}  // namespace

Result<int64_t> ReadInt(const OpDesc& desc, const std::string& name, int64_t otherwise) {
  const auto it = desc.attributes.values().find(name);
  if (it == desc.attributes.values().end()) return otherwise;
  const auto* value = std::get_if<int64_t>(&it->second);
  if (value == nullptr) return WrongType(desc, name, "an integer");
  return *value;
}

Result<double> ReadNumber(const OpDesc& desc, const std::string& name, double otherwise) {
  const auto it = desc.attributes.values().find(name);
  if (it == desc.attributes.values().end()) return otherwise;
  if (std::holds_alternative<std::string>(it->second)) return WrongType(desc, name, "a number");
  const double value = desc.attributes.Number(name, otherwise);
  if (!std::isfinite(value)) return WrongType(desc, name, "a finite number");
  return value;
}

Result<std::string> ReadWord(const OpDesc& desc, const std::string& name, std::string_view otherwise) {
  const auto it = desc.attributes.values().find(name);
  if (it == desc.attributes.values().end()) return std::string(otherwise);
  const auto* value = std::get_if<std::string>(&it->second);
  if (value == nullptr) return WrongType(desc, name, "a word");
  return *value;
}

Result<bool> ReadFlag(const OpDesc& desc, const std::string& name) {
  TING_ASSIGN_OR_RETURN(const double value, ReadNumber(desc, name, 0));
  if (value != 0 && value != 1) return WrongType(desc, name, "0 or 1");
  return value == 1;
}

Result<float> ReadNormEps(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const double eps, ReadNumber(desc, "norm_eps", 1e-5));
  if (eps < 0) return WrongType(desc, "norm_eps", "at least 0");
  return static_cast<float>(eps);
}

Result<Activation> ReadActivation(const OpDesc& desc, Activation otherwise) {
  TING_ASSIGN_OR_RETURN(const std::string word, ReadWord(desc, "activation", ActivationName(otherwise)));
  auto activation = ParseActivation(word);
  if (!activation.ok()) return activation.status().WithContext("node " + desc.node + " (" + desc.op + ")");
  return activation;
}

}  // namespace ting
