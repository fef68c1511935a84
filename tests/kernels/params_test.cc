// tests/kernels/params_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Weight layouts, the position table against PyTorch's, chunk masks against WeNet's, frame counts, and what the parsers
// refuse.
#include "kernels/params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <set>

#include "base/bfloat16.h"
#include "kernels/attention.h"
#include "kernels/conv_module.h"
#include "kernels/embed.h"
#include "kernels/feed_forward.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/output_head.h"
#include "kernels/subsample_conv2d.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/support/npz.h"
#include "tests/support/paths.h"

namespace ting::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kUnit = "tests/golden/shipped/unit.npz";

TEST(PackMatrixTest, PlacesElementsAsTheLayoutSays) {
  const int64_t N = 18, K = 3;
  std::vector<float> source(N * K);
  for (int64_t i = 0; i < N * K; ++i) source[i] = static_cast<float>(i + 1);
  std::vector<float> f32(WeightBytes(DType::kF32, {N, K}, Layout::kPanel16) / 4, -1.0F);
  ASSERT_EQ(f32.size(), 2u * 16 * 3);
  PackMatrix(source.data(), N, K, DType::kF32, Layout::kPanel16, f32.data());
  EXPECT_EQ(f32[0 * 16 + 5], source[5 * K + 0]);
  EXPECT_EQ(f32[2 * 16 + 15], source[15 * K + 2]);
  EXPECT_EQ(f32[(3 + 1) * 16 + 1], source[17 * K + 1]);
  EXPECT_EQ(f32[(3 + 1) * 16 + 2], 0.0F);  // past N
  std::vector<BFloat16> bf16(WeightBytes(DType::kBF16, {N, K}, Layout::kPanel16) / 2, BFloat16(-1.0F));
  ASSERT_EQ(bf16.size(), 2u * 2 * 16 * 2);
  PackMatrix(source.data(), N, K, DType::kBF16, Layout::kPanel16, bf16.data());
  EXPECT_EQ(static_cast<float>(bf16[5 * 2 + 1]), source[5 * K + 1]);
  EXPECT_EQ(static_cast<float>(bf16[(16 + 5) * 2]), source[5 * K + 2]);
  EXPECT_EQ(static_cast<float>(bf16[(16 + 5) * 2 + 1]), 0.0F);  // past K
}

TEST(PackMatrixTest, PlacesTheTermsOfBf16x2) {
  const int64_t N = 18, K = 35, panel = 2 * 2 * 512;  // two runs of 32 k, two terms of 32 x 16 each
  std::vector<float> source(N * K);
  for (int64_t i = 0; i < N * K; ++i) source[i] = 1.0F + 0x1p-12F * static_cast<float>(i + 1);
  std::vector<BFloat16> terms(WeightBytes(DType::kBF16x2, {N, K}, Layout::kPanel16) / 2, BFloat16(-1.0F));
  ASSERT_EQ(terms.size(), 2U * panel);
  PackMatrix(source.data(), N, K, DType::kBF16x2, Layout::kPanel16, terms.data());
  const auto expect = [&](int64_t high, float value) {
    EXPECT_EQ(terms[high].bits, BFloat16(value).bits);
    EXPECT_EQ(terms[high + 512].bits, BFloat16(value - static_cast<float>(BFloat16(value))).bits);
  };
  expect(5 * 2 + 1, source[5 * K + 1]);
  expect(15 * 32 + 3 * 2 + 1, source[3 * K + 31]);
  expect(2 * 512 + 32 + 7 * 2, source[7 * K + 34]);
  expect(panel + 2 * 512 + 1 * 2 + 1, source[17 * K + 33]);
  expect(panel + 2 * 2, 0.0F);              // past N
  expect(2 * 512 + 32 + 7 * 2 + 1, 0.0F);   // past K, in the last pair
  expect(2 * 512 + 15 * 32 + 7 * 2, 0.0F);  // and at the end of the run
}

TEST(PackMatrixTest, PlacesTheIntegersOfS16BeforeTheirFactors) {
  const int64_t N = 18, K = 35, panel = 64 * 16;
  std::vector<float> source(N * K);
  for (int64_t n = 0; n < N; ++n) source[n * K] = 32767.0F * static_cast<float>(n);  // factor n, row 0 all zeros
  source[5 * K + 34] = -7 * 5, source[17 * K + 33] = 9 * 17;
  std::vector<int16_t> packed(WeightBytes(DType::kS16, {N, K}, Layout::kPanel16) / 2, -1);
  ASSERT_EQ(packed.size(), 2U * panel + 2 * 32);
  PackMatrix(source.data(), N, K, DType::kS16, Layout::kPanel16, packed.data());
  EXPECT_EQ(packed[5 * 2], 32767);
  EXPECT_EQ(packed[17 * 32 + 5 * 2], -7);
  EXPECT_EQ(packed[panel + 16 * 32 + 1 * 2 + 1], 9);
  EXPECT_EQ(packed[panel + 2 * 2], 0);        // past N
  EXPECT_EQ(packed[17 * 32 + 5 * 2 + 1], 0);  // past K
  const WeightView view{packed.data(), DType::kS16, {N, K}, Layout::kPanel16};
  for (int64_t n = 0; n < N; ++n) EXPECT_EQ(MatrixFactors(view)[n], static_cast<float>(n));
}

TEST(PackMatrixTest, PlacesTheTermsOfS8x2BeforeTheirFactors) {
  const int64_t N = 18, K = 70, panel = 2 * 2 * 64 * 16;
  std::vector<float> source(N * K);
  for (int64_t n = 0; n < N; ++n) source[n * K] = 32639.0F * static_cast<float>(n);  // factor n, row 0 all zeros
  source[5 * K + 66] = -129 * 5, source[17 * K + 33] = 128 * 17;
  std::vector<int8_t> packed(WeightBytes(DType::kS8x2, {N, K}, Layout::kPanel16), -1);
  ASSERT_EQ(packed.size(), 2U * panel + 4 * 32);
  PackMatrix(source.data(), N, K, DType::kS8x2, Layout::kPanel16, packed.data());
  const auto expect_terms = [&](int64_t at, int high, int low) {  // the low term one tile, of 64 x 16, further on
    EXPECT_EQ(packed[at], high);
    EXPECT_EQ(packed[at + 1024], low);
  };
  expect_terms(5 * 4, 127, 127);
  expect_terms(2 * 1024 + 5 * 4 + 2, -1, 127);                // -129 = 256 * -1 + 127
  expect_terms(panel + 33 / 4 * 64 + 1 * 4 + 1, 1, -128);     // 128 = 256 * 1 - 128
  expect_terms(panel + 2 * 4, 0, 0);                          // past N
  expect_terms(2 * 1024 + 6 / 4 * 64 + 5 * 4 + 6 % 4, 0, 0);  // past K
  const WeightView view{packed.data(), DType::kS8x2, {N, K}, Layout::kPanel16};
  for (int64_t n = 0; n < N; ++n) EXPECT_EQ(MatrixFactors(view)[n], static_cast<float>(n));
}

// A run's magnitudes may add up to 131071 at most, or products would leave 32 bits.
TEST(PackMatrixTest, LeavesRunsOfS16RoomForTheirSum) {
  Rng rng(12);
  const int64_t N = 40, K = 100;
  std::vector<float> source = rng.Floats(N * K);
  for (int64_t k = 0; k < K; ++k) source[k] = k % 2 == 0 ? 1.0F : -1.0F;
  std::vector<int16_t> packed(WeightBytes(DType::kS16, {N, K}, Layout::kRowMajor) / 2);
  PackMatrix(source.data(), N, K, DType::kS16, Layout::kRowMajor, packed.data());
  for (int64_t n = 0; n < N; ++n) {
    int64_t largest = 0;
    for (int64_t first = 0; first < K; first += 32) {
      int64_t sum = 0;
      for (int64_t k = first; k < std::min(K, first + 32); ++k) sum += std::abs(int64_t{packed[n * K + k]});
      largest = std::max(largest, sum);
    }
    EXPECT_LE(largest, 131071) << n;
    EXPECT_GE(largest, 131023) << n;  // and no more than rounding is left unused: 131055 less a half each
  }
}

// Rows that are packed again, as one matrix with others, keep their integers.
TEST(PackMatrixTest, KeepsIntegers) {
  Rng rng(13);
  const int64_t N = 7, K = 50;
  for (const DType dtype : {DType::kS16, DType::kS8x2}) {
    const PackedOp first = TestOp("x").Matrix("w", N, K, rng.Floats(N * K)).Pack({dtype, Layout::kRowMajor});
    const WeightView& w = first.desc.weights.at("w");
    const std::vector<float> values = UnpackMatrix(w);
    std::vector<std::byte> again(WeightBytes(dtype, {N, K}, Layout::kRowMajor));
    PackMatrix(values.data(), N, K, dtype, Layout::kRowMajor, again.data(), MatrixFactors(w));
    EXPECT_EQ(std::memcmp(again.data(), w.data, again.size()), 0);
  }
}

TEST(PackMatrixTest, UnpacksToTheSame) {
  Rng rng(11);
  for (const auto& [N, K] : {std::pair<int64_t, int64_t>{1, 1}, {15, 4}, {16, 5}, {17, 36}, {33, 7}}) {
    const auto source = rng.Floats(N * K);
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kBF16x2}) {
      for (const Layout layout : {Layout::kRowMajor, Layout::kPanel16}) {
        const PackedOp packed = TestOp("x").Matrix("w", N, K, source).Pack({dtype, layout});
        auto expected = source;
        if (dtype == DType::kBF16) {
          for (float& value : expected) value = static_cast<float>(BFloat16(value));
        } else if (dtype == DType::kBF16x2) {
          for (float& value : expected) value = static_cast<float>(BFloat16x2(value));
          for (size_t i = 0; i < source.size(); ++i) EXPECT_NEAR(expected[i], source[i], 0x1p-17 * std::abs(source[i]));
        }
        EXPECT_EQ(UnpackMatrix(packed.desc.weights.at("w")), expected) << N << "x" << K << FormatName({dtype, layout});
      }
    }
    for (const WeightFormat format : {WeightFormat{DType::kS16, Layout::kRowMajor},
                                      {DType::kS16, Layout::kPanel16},
                                      {DType::kS8x2, Layout::kRowMajor},
                                      {DType::kS8x2, Layout::kPanel16}}) {
      const PackedOp packed = TestOp("x").Matrix("w", N, K, source).Pack(format);
      const WeightView& w = packed.desc.weights.at("w");
      const std::vector<float> values = UnpackMatrix(w);
      for (int64_t i = 0; i < N * K; ++i) EXPECT_NEAR(values[i], source[i], 0.501F * MatrixFactors(w)[i / K]);
    }
  }
}

// PyTorch's vector exp misses the correctly rounded f32 in a few frequencies, by one unit in the last place (1.2e-7 of
// it); position p multiplies that, and rounding the two angles adds as much again. All other columns agree to the
// rounding of sin and cos. A table with f32 exp of another library would differ in a third of its columns.
TEST(PositionRowTest, EqualsPyTorch) {
  const Npz unit = Npz::Load(SourcePath(kUnit));
  const auto rows = unit["pe.row_numbers"].As<int64_t>();
  for (const int64_t D : {144, 256}) {
    const auto expected = unit["pe" + std::to_string(D) + ".rows"].As<float>();
    std::vector<float> row(D);
    std::set<int64_t> different;
    for (size_t i = 0; i < rows.size(); ++i) {
      PositionRow(rows[i], D, row.data());
      for (int64_t d = 0; d < D; ++d) {
        const double angle = static_cast<double>(rows[i]) * std::pow(10000.0, -static_cast<double>(d / 2 * 2) / D);
        const double error = std::abs(static_cast<double>(row[d]) - expected[i * D + d]);
        EXPECT_LE(error, 2.4e-7 * (0.5 + angle)) << "position " << rows[i] << ", D " << D << ", column " << d;
        if (error > 1.2e-7) different.insert(d / 2);
      }
    }
    EXPECT_LE(different.size(), 2u) << "frequencies that differ, D " << D;
  }
}

TEST(PositionRowTest, HasNoLimit) {
  std::vector<float> row(36);
  PositionRow(2'000'000, 36, row.data());
  for (int d = 0; d < 36; d += 2) EXPECT_NEAR(row[d] * row[d] + row[d + 1] * row[d + 1], 1.0F, 1e-6F);
}

TEST(VisibleKeysTest, EqualsWenetsChunkMask) {
  const Npz unit = Npz::Load(SourcePath(kUnit));
  int masks = 0;
  for (const auto& [name, array] : unit.arrays()) {
    int size, chunk, left;
    if (std::sscanf(name.c_str(), "chunk_mask.size%d_chunk%d_left%d", &size, &chunk, &left) != 3) continue;
    ++masks;
    const auto mask = array.As<int32_t>();
    StepOptions options;
    options.chunk_frames = chunk;
    options.num_left_chunks = left;
    for (int i = 0; i < size; ++i) {
      const KeyRange range = VisibleKeys(options, i, size);
      for (int j = 0; j < size; ++j) {
        EXPECT_EQ(j >= range.first && j < range.last, mask[i * size + j] != 0) << name << " " << i << "," << j;
      }
    }
  }
  EXPECT_EQ(masks, 5);
}

TEST(SubsampledFramesTest, EqualsWenet) {
  const Npz unit = Npz::Load(SourcePath(kUnit));
  const auto in = unit["subsample4.frames_in"].As<int64_t>(), out = unit["subsample4.frames_out"].As<int64_t>();
  const auto stages = SubsampleStages("conv2d").value();
  for (size_t i = 0; i < in.size(); ++i) EXPECT_EQ(SubsampledFrames(stages, in[i]), out[i]) << in[i];
  for (int64_t frames = 0; frames < 7; ++frames) EXPECT_EQ(SubsampledFrames(stages, frames), 0);
  EXPECT_EQ(SubsampledFrames(SubsampleStages("conv2d6").value(), 11), 1);
  EXPECT_EQ(SubsampledFrames(SubsampleStages("conv2d8").value(), 15), 1);
  EXPECT_EQ(SubsampledFrames(SubsampleStages("conv2d2").value(), 7), 1);
  EXPECT_EQ(SubsampleStages("conv2d4").status().code(), StatusCode::kUnimplemented);
}

TEST(ActivationTest, NamesAreReadBack) {
  for (const Activation a : {Activation::kNone, Activation::kRelu, Activation::kSwish, Activation::kGelu}) {
    EXPECT_EQ(ParseActivation(ActivationName(a)).value(), a);
  }
  EXPECT_EQ(ParseActivation("hardtanh").status().code(), StatusCode::kUnimplemented);
}

// A well-formed node of each op, which the refusal tests then break.
TestOp FeedForwardNode() {
  Rng rng(3);
  TestOp op("feed_forward", "enc.3.ff");
  op.RandomLinear(rng, "w1", 12, 8).RandomLinear(rng, "w2", 8, 12).RandomNorm(rng, "norm", 8);
  return op;
}
TestOp RelAttentionNode() {
  Rng rng(4);
  TestOp op("rel_attention", "enc.3.att");
  op.Set("heads", int64_t{2}).RandomLinear(rng, "qkv", 24, 8).RandomLinear(rng, "o", 8, 8);
  op.Matrix("pos.w", 8, 8, rng.Floats(64)).Vector("pos_u", rng.Floats(8)).Vector("pos_v", rng.Floats(8));
  return op;
}
TestOp ConvNode() {
  Rng rng(5);
  TestOp op("conv_module", "enc.3.conv");
  op.RandomLinear(rng, "pw1", 16, 8).RandomLinear(rng, "pw2", 8, 8).PlainMatrix("dw.w", 3, 8, rng.Floats(24));
  return op;
}
TestOp SubsampleNode() {
  Rng rng(6);
  TestOp op("subsample_conv2d", "enc.embed");
  op.Set("kind", std::string("conv2d")).RandomLinear(rng, "conv0", 4, 9).RandomLinear(rng, "conv1", 4, 36);
  op.RandomLinear(rng, "out", 6, 5 * 4).Vector("mean", rng.Floats(23)).Vector("istd", rng.Floats(23));
  return op;
}

template <typename Parse>
std::string Refusal(const TestOp& op, Parse parse) {
  const PackedOp packed = op.Pack();
  const auto result = parse(packed.desc);
  return result.ok() ? "accepted" : result.status().message();
}

TEST(ParseTest, AcceptsWhatTheContractsSay) {
  EXPECT_EQ(Refusal(FeedForwardNode(), ParseFeedForward), "accepted");
  EXPECT_EQ(Refusal(RelAttentionNode(), ParseSelfAttention), "accepted");
  EXPECT_EQ(Refusal(ConvNode(), ParseConvModule), "accepted");
  EXPECT_EQ(Refusal(SubsampleNode(), ParseSubsampleConv2d), "accepted");
}

TEST(ParseTest, NamesNodeSlotAndBothShapes) {
  EXPECT_THAT(Refusal(FeedForwardNode().Matrix("w2.w", 8, 11, std::vector<float>(88)), ParseFeedForward),
              AllOf(HasSubstr("enc.3.ff"), HasSubstr("w2.w"), HasSubstr("[8,11]"), HasSubstr("[8,12]")));
  EXPECT_THAT(Refusal(FeedForwardNode().Vector("norm.beta", std::vector<float>(7)), ParseFeedForward),
              AllOf(HasSubstr("norm.beta"), HasSubstr("[7]"), HasSubstr("[8]")));
  EXPECT_THAT(Refusal(RelAttentionNode().Matrix("qkv.w", 16, 8, std::vector<float>(128)), ParseSelfAttention),
              AllOf(HasSubstr("enc.3.att"), HasSubstr("qkv.w"), HasSubstr("[16,8]"), HasSubstr("[24,8]")));
  EXPECT_THAT(Refusal(SubsampleNode().Matrix("out.w", 6, 24, std::vector<float>(144)), ParseSubsampleConv2d),
              AllOf(HasSubstr("enc.embed"), HasSubstr("out.w"), HasSubstr("[6,24]"), HasSubstr("[*,20]")));
  EXPECT_THAT(Refusal(ConvNode().Matrix("pw1.w", 15, 8, std::vector<float>(120)), ParseConvModule),
              AllOf(HasSubstr("pw1."), HasSubstr("15")));
}

TEST(ParseTest, RefusesMissingWeights) {
  EXPECT_THAT(Refusal(FeedForwardNode().Erase("w1.w"), ParseFeedForward), HasSubstr("w1.w is missing"));
  EXPECT_THAT(Refusal(FeedForwardNode().Erase("norm.beta"), ParseFeedForward), HasSubstr("norm.beta is missing"));
  EXPECT_THAT(Refusal(RelAttentionNode().Erase("pos_v"), ParseSelfAttention), HasSubstr("pos_v is missing"));
  EXPECT_THAT(Refusal(RelAttentionNode().Set("folded", int64_t{1}), ParseSelfAttention),
              HasSubstr("key_bias is missing"));
  EXPECT_THAT(Refusal(SubsampleNode().Erase("istd"), ParseSubsampleConv2d), HasSubstr("istd is missing"));
  EXPECT_THAT(Refusal(ConvNode().Set("conv_norm", std::string("batch_norm")), ParseConvModule),
              HasSubstr("conv_norm.gamma is missing"));
  EXPECT_THAT(Refusal(TestOp("layer_norm", "ln"), ParseLayerNorm), HasSubstr("missing"));
  EXPECT_THAT(Refusal(TestOp("linear", "l"), ParseLinear), HasSubstr("linear.w is missing"));
  EXPECT_THAT(Refusal(TestOp("embed", "e"), ParseEmbed), HasSubstr("table is missing"));
  EXPECT_THAT(Refusal(TestOp("log_softmax", "h"), ParseOutputHead), HasSubstr("head.w is missing"));
}

TEST(ParseTest, RefusesBadAttributes) {
  EXPECT_THAT(Refusal(RelAttentionNode().Set("heads", int64_t{3}), ParseSelfAttention), HasSubstr("heads = 3"));
  EXPECT_THAT(Refusal(RelAttentionNode().Set("heads", int64_t{0}), ParseSelfAttention), HasSubstr("heads = 0"));
  EXPECT_THAT(Refusal(RelAttentionNode().Set("heads", std::string("2")), ParseSelfAttention), HasSubstr("an integer"));
  EXPECT_THAT(Refusal(RelAttentionNode().Set("residual", 0.5), ParseSelfAttention), HasSubstr("0 or 1"));
  EXPECT_THAT(Refusal(FeedForwardNode().Set("activation", std::string("tanh")), ParseFeedForward),
              AllOf(HasSubstr("enc.3.ff"), HasSubstr("tanh")));
  EXPECT_THAT(Refusal(FeedForwardNode().Set("norm_eps", -1.0), ParseFeedForward), HasSubstr("norm_eps"));
  EXPECT_THAT(Refusal(FeedForwardNode().Set("residual", std::numeric_limits<double>::infinity()), ParseFeedForward),
              HasSubstr("finite"));
  EXPECT_THAT(Refusal(ConvNode().Set("conv_norm", std::string("group_norm")), ParseConvModule),
              HasSubstr("group_norm"));
  EXPECT_THAT(Refusal(ConvNode().PlainMatrix("dw.w", 4, 8, std::vector<float>(32)), ParseConvModule),
              HasSubstr("causal = 1"));
  EXPECT_THAT(Refusal(SubsampleNode().Set("kind", std::string("linear")), ParseSubsampleConv2d), HasSubstr("linear"));
}

TEST(ParseTest, RefusesTypesAndLayoutsThatAnOpCannotRead) {
  PackedOp packed = FeedForwardNode().Pack();
  packed.desc.weights["w1.w"].dtype = DType::kS8;
  EXPECT_THAT(ParseFeedForward(packed.desc).status().message(),
              AllOf(HasSubstr("s8"), HasSubstr("f32, bf16, bf16x2, s16 or s8x2")));
  packed = FeedForwardNode().Pack();
  packed.desc.weights["w1.b"].dtype = DType::kBF16;
  EXPECT_THAT(ParseFeedForward(packed.desc).status().message(), AllOf(HasSubstr("w1.b"), HasSubstr("bf16")));
  packed = TestOp("embed").Matrix("table", 4, 4, std::vector<float>(16)).Pack({DType::kF32, Layout::kPanel16});
  EXPECT_THAT(ParseEmbed(packed.desc).status().message(), HasSubstr("row-major"));
  packed = TestOp("embed").Matrix("table", 4, 4, std::vector<float>(16)).Pack({DType::kBF16x2, Layout::kRowMajor});
  EXPECT_THAT(ParseEmbed(packed.desc).status().message(), HasSubstr("f32 or bf16"));
}

}  // namespace
}  // namespace ting::testing
