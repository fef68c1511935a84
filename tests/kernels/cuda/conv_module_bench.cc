// tests/kernels/cuda/conv_module_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// Times of the conv module of a U2 conformer (D = 256, 124 rows an utterance), and of its depthwise convolution alone:
// graphs of dependent launches over 12 sets of weights, each kernel reading what the one before wrote, as a step has
// them. `ConvModuleBench.*` of row_gemm_test.
#include <cstdio>

#include "kernels/cuda/row_gemm.h"
#include "tests/kernels/cuda/row_convolution_testing.h"

namespace ting::cuda {
namespace {

constexpr int kLayers = 12, kD = 256;

ConvolutionCase Utterances(int count, bool norm) {
  return {std::vector<int>(count, 124), kD, 15, norm, norm, false, Activation::kSwish, 0};
}

class Module {
 public:
  explicit Module(const ConvolutionCase& made)
      : convolution_(made),
        w1_(RoundedAll<__half>(RandomFloats(kLayers * 2 * kD * kD, 0.1F, 3))),
        w2_(RoundedAll<__half>(RandomFloats(kLayers * kD * kD, 0.1F, 4))),
        vectors_(RandomFloats(4096, 0.5F, 5)),
        x_(RandomFloats(static_cast<size_t>(rows() * kD), 1, 6)),
        gated_(static_cast<size_t>(rows() * kD)),
        mixed_(static_cast<size_t>(rows() * kD)) {}

  int64_t rows() const { return convolution_.c.rows(); }

  // x += module(x).
  Status Layer(int layer, int window, cudaStream_t stream) const {
    RowGemmArguments a = First(layer);
    if (const Status status = RowGemm(a, stream); !status.ok()) return status;
    a = Second(layer);
    if (const Status status = Depthwise(window, gated_.data(), mixed_.data(), stream); !status.ok()) return status;
    return RowGemm(a, stream);
  }
  Status Depthwise(int window, const __half* in, __half* out, cudaStream_t stream) const {
    return DepthwiseRows(DType::kF16, in, convolution_.Params(), convolution_.Rows(), convolution_.Range(), kD, out,
                         stream, window);
  }
  double ModuleMicroseconds(int window, bool cold) const {
    const double all = GraphMicroseconds(4 * kLayers, [&](int i, cudaStream_t stream) {
      if (cold) EXPECT_OK(EvictCode(stream));
      return Layer(i % kLayers, window, stream);
    });
    return cold ? all - GraphMicroseconds(4 * kLayers, [&](int, cudaStream_t stream) { return EvictCode(stream); })
                : all;
  }
  double DepthwiseMicroseconds(int window) const {
    return GraphMicroseconds(120, [&](int i, cudaStream_t stream) {
      return Depthwise(window, i % 2 == 0 ? gated_.data() : mixed_.data(), i % 2 == 0 ? mixed_.data() : gated_.data(),
                       stream);
    });
  }

 private:
  RowGemmArguments Common(const void* weight) const {
    RowGemmArguments a;
    a.M = rows(), a.K = kD, a.num_rows = convolution_.Range().count, a.dependent = true;
    a.weight = weight, a.bias = vectors_.data(), a.x_stride = kD, a.y_stride = kD;
    return a;
  }
  RowGemmArguments First(int layer) const {
    RowGemmArguments a = Common(w1_.data() + layer * 2 * kD * kD);
    a.N = 2 * kD, a.x_f32 = x_.data(), a.gamma = vectors_.data() + 1024, a.beta = vectors_.data() + 2048;
    a.output = RowGemmOutput::kGlu, a.y = gated_.data();
    return a;
  }
  RowGemmArguments Second(int layer) const {
    RowGemmArguments a = Common(w2_.data() + layer * kD * kD);
    a.N = kD, a.x = mixed_.data(), a.output = RowGemmOutput::kFloat;
    a.residual = x_.data(), a.residual_stride = kD, a.y = x_.data();
    return a;
  }

  Convolution<__half> convolution_;
  DeviceArray<__half> w1_, w2_;
  DeviceArray<float> vectors_, x_;
  DeviceArray<__half> gated_, mixed_;
};

constexpr int kUtterances[] = {1, 8, 16, 64};

TEST(ConvModuleBench, Depthwise) {
  TING_SKIP_WITHOUT_HOPPER();
  for (const int utterances : kUtterances) {
    for (const bool norm : {false, true}) {
      const Module module(Utterances(utterances, norm));
      std::printf("%5ld rows%s", static_cast<long>(module.rows()), norm ? " norm" : "");
      for (const int window : {0, 4, 8, 16}) {
        std::printf("  window %d: %.2f us", window, module.DepthwiseMicroseconds(window));
      }
      std::printf("\n");
    }
  }
}

void PrintModules(bool cold) {
  for (const int utterances : kUtterances) {
    const Module module(Utterances(utterances, false));
    std::printf("%5ld rows%s, window", static_cast<long>(module.rows()), cold ? " cold" : "");
    for (const int window : {4, 8}) std::printf(" %d: %.2f us", window, module.ModuleMicroseconds(window, cold));
    std::printf("\n");
  }
}
TEST(ConvModuleBench, Modules) {
  TING_SKIP_WITHOUT_HOPPER();
  PrintModules(false);
}
TEST(ConvModuleBench, ModulesWithColdCode) {
  TING_SKIP_WITHOUT_HOPPER();
  PrintModules(true);
}

}  // namespace
}  // namespace ting::cuda
