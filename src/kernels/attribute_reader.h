// src/kernels/attribute_reader.h
// SPDX-License-Identifier: Apache-2.0
//
// Attributes of an OpDesc with their type checked. Attributes::Int and its like answer with the default when the
// stored type differs; here that is an error, because a graph file that says heads = "4" must not run with 1 head.
#pragma once

#include <string>

#include "kernels/params.h"

namespace ting {

Result<int64_t> ReadInt(const OpDesc& desc, const std::string& name, int64_t otherwise);
Result<double> ReadNumber(const OpDesc& desc, const std::string& name, double otherwise);  // finite
Result<std::string> ReadWord(const OpDesc& desc, const std::string& name, std::string_view otherwise);
Result<bool> ReadFlag(const OpDesc& desc, const std::string& name);  // 0 (default) or 1
Result<float> ReadNormEps(const OpDesc& desc);                       // norm_eps: 1e-5, never negative
Result<Activation> ReadActivation(const OpDesc& desc, Activation otherwise);

}  // namespace ting
