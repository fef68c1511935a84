// tests/engine/goldens_cuda_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// A GPU against PyTorch WeNet's goldens. In f32 all is held to what the CPU is held to; batches of one are compared
// with larger ones bit for bit, in batch-invariant mode.
#include "tests/engine/recognizer_golden_test.h"
#include "tests/engine/reduced_golden_test.h"
#include "tests/support/gpu_test.h"

namespace ting::testing {
namespace {

// Measured on an H100: mean errors of 0.0014 to 0.0023 and no other text in f16 and in tf32, which keeps as many bits;
// 0.018 to 0.024 and one of 15 texts in bf16x1. bf16 is f16 for these models.
constexpr ReducedCase On(const char* model, Precision precision, const char* name) {
  if (precision == Precision::kBF16x1) return {model, "cuda", precision, name, 0.03, 0.005, 3, cuda::WhyNoGpu};
  return {model, "cuda", precision, name, 0.004, 0.001, 1, cuda::WhyNoGpu};
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Cuda, RecognizerGoldenTest,
                         ::testing::Values(GoldenCase{"shipped", "cuda", cuda::WhyNoGpu},
                                           GoldenCase{"tiny", "cuda", cuda::WhyNoGpu},
                                           GoldenCase{"aishell", "cuda", cuda::WhyNoGpu},
                                           GoldenCase{"u2pp", "cuda", cuda::WhyNoGpu}),
                         NameOf);

INSTANTIATE_TEST_SUITE_P(
    Cuda, ReducedGoldenTest,
    ::testing::Values(On("shipped", Precision::kF16, "f16"), On("shipped", Precision::kTF32, "tf32"),
                      On("shipped", Precision::kBF16, "bf16"), On("shipped", Precision::kBF16x1, "bf16x1"),
                      On("aishell", Precision::kF16, "f16"), On("aishell", Precision::kTF32, "tf32"),
                      On("aishell", Precision::kBF16, "bf16"), On("aishell", Precision::kBF16x1, "bf16x1"),
                      On("u2pp", Precision::kF16, "f16"), On("u2pp", Precision::kTF32, "tf32"),
                      On("u2pp", Precision::kBF16x1, "bf16x1")),
    NameOfReduced);

}  // namespace ting::testing
