// tests/engine/reduced_golden_test.h
// SPDX-License-Identifier: Apache-2.0
//
// The fixture of the tests of reduced precision (bf16, f16, tf32) against PyTorch WeNet's goldens in f32: by how much
// log-probabilities differ, and how many texts. The tests are the same on every device; each test program names its
// own devices.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>

#include "tests/engine/golden_set.h"

namespace ting::testing {

struct ReducedCase {
  const char* model;  // of TING_SHARED, or "shipped"
  const char* device;
  Precision precision;
  const char* precision_name;
  // Bounds: of the mean absolute error of each frame's ten best log-probabilities, of the share of errors above 0.5,
  // and of the number of texts that differ.
  double mean_error, large_errors;
  int different_texts;
  std::string (*missing)() = nullptr;  // why this machine lacks the device; empty: it does not
};

inline void PrintTo(const ReducedCase& c, std::ostream* out) {
  *out << c.model << " on " << c.device << " in " << c.precision_name;
}
inline std::string NameOfReduced(const ::testing::TestParamInfo<ReducedCase>& info) {
  return std::string(info.param.model) + "_" + info.param.device + "_" + info.param.precision_name;
}

class ReducedGoldenTest : public ::testing::TestWithParam<ReducedCase> {
 protected:
  void SetUp() override;

  GoldenSet set_;
  std::string golden_dir_, features_dir_;
  std::unique_ptr<Recognizer> recognizer_;
};

}  // namespace ting::testing
