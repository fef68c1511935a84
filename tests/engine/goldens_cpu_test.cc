// tests/engine/goldens_cpu_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The backends that run on the CPU against PyTorch WeNet's goldens.
#include "tests/engine/recognizer_golden_test.h"
#include "tests/engine/reduced_golden_test.h"

namespace ting::testing {

INSTANTIATE_TEST_SUITE_P(Cpu, RecognizerGoldenTest,
                         ::testing::Values(GoldenCase{"shipped", "ref"}, GoldenCase{"shipped", "cpu"},
                                           GoldenCase{"tiny", "cpu"}, GoldenCase{"aishell", "cpu"},
                                           GoldenCase{"u2pp", "cpu"}),
                         NameOf);

// bf16x1: measured with AMX, AVX512-BF16 and AVX2: mean errors of 0.014 to 0.024, at most 0.003 of them large, and two
// of 15 texts. int16, with AVX512-VNNI or AMX: 5e-4 to 8e-4. bf16 is int16.
INSTANTIATE_TEST_SUITE_P(Cpu, ReducedGoldenTest,
                         ::testing::Values(ReducedCase{"shipped", "cpu", Precision::kBF16x1, "bf16x1", 0.03, 0.005, 1},
                                           ReducedCase{"tiny", "cpu", Precision::kBF16x1, "bf16x1", 0.03, 0.005, 3},
                                           ReducedCase{"aishell", "cpu", Precision::kBF16x1, "bf16x1", 0.03, 0.005, 3},
                                           ReducedCase{"u2pp", "cpu", Precision::kBF16x1, "bf16x1", 0.03, 0.005, 3},
                                           ReducedCase{"shipped", "cpu", Precision::kBF16x3, "bf16x3", 1e-4, 0, 0},
                                           ReducedCase{"tiny", "cpu", Precision::kBF16x3, "bf16x3", 1e-4, 0, 0},
                                           ReducedCase{"aishell", "cpu", Precision::kBF16x3, "bf16x3", 1e-4, 0, 0},
                                           ReducedCase{"u2pp", "cpu", Precision::kBF16x3, "bf16x3", 1e-4, 0, 0},
                                           ReducedCase{"shipped", "cpu", Precision::kInt16, "int16", 1.2e-3, 0, 0},
                                           ReducedCase{"tiny", "cpu", Precision::kInt16, "int16", 1.2e-3, 0, 0},
                                           ReducedCase{"aishell", "cpu", Precision::kInt16, "int16", 1.2e-3, 0, 0},
                                           ReducedCase{"u2pp", "cpu", Precision::kInt16, "int16", 1.2e-3, 0, 0},
                                           ReducedCase{"shipped", "cpu", Precision::kBF16, "bf16", 1.2e-3, 0, 0},
                                           ReducedCase{"aishell", "cpu", Precision::kBF16, "bf16", 1.2e-3, 0, 0}),
                         NameOfReduced);

}  // namespace ting::testing
