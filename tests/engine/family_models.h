// tests/engine/family_models.h
// SPDX-License-Identifier: Apache-2.0
//
// Families without a trained model at hand, as checkpoints of random weights, and sound to try them on.
#pragma once

#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "ting/recognizer.h"

namespace ting::testing {

struct Family {
  const char* name;
  const char* yaml;
};

inline void PrintTo(const Family& family, std::ostream* out) { *out << family.name; }

// Small ones, of odd widths; and such as the kernels for Hopper are made for.
std::span<const Family> OddFamilies();
std::span<const Family> WideFamilies();

// The directory of a checkpoint with the family's weights, the same every time.
std::string MakeFamilyModel(const Family& family);

// Tones and noise of several lengths: random weights make "text" of anything.
std::vector<Audio> FamilyAudio();

}  // namespace ting::testing
