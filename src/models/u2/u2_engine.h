// src/models/u2/u2_engine.h
// SPDX-License-Identifier: Apache-2.0
//
// The part of u2_model.h that reads engine files (SaveU2Model writes them): what a model is stands in their header as
// JSON. Minimal builds have no_u2_engine.cc instead, which refuses both by name.
#pragma once

#include <optional>
#include <string>

#include "models/u2/u2_model.h"

namespace ting {

Result<U2Model> LoadU2Engine(const std::string& path, std::optional<Precision> precision);

// Fills in what follows from the model's subsampling alone.
Status DescribeSubsampling(U2Model& model);

}  // namespace ting
