// src/engine/no_tuning.cc
// SPDX-License-Identifier: Apache-2.0
//
// In minimal builds, which read no files.
#include "engine/tuning.h"

namespace ting {

void LoadTuning(const U2Model&, const RecognizerOptions&, Device&) {}

}  // namespace ting
