// src/engine/tuning.h
// SPDX-License-Identifier: Apache-2.0
//
// Brings the tuning records of a model to a device.
#pragma once

#include "models/u2/u2_model.h"
#include "runtime/device.h"
#include "ting/options.h"

namespace ting {

// Reads the records that `options` name or the cache holds. What is wrong with them is a note: without records the
// kernels choose by themselves.
void LoadTuning(const U2Model& model, const RecognizerOptions& options, Device& device);

}  // namespace ting
