// tests/kernels/ref_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// ref beyond the goldens: values worked by hand, and what each op refuses at run time, with which words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/ref/ref_kernels.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/kernel_testing.h"

namespace ting::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;

std::vector<float> Floats(const HostTensor& tensor) { return {tensor.floats().begin(), tensor.floats().end()}; }
std::vector<int32_t> Ints(const HostTensor& tensor) { return {tensor.ints().begin(), tensor.ints().end()}; }

OpOutcome RunRef(const TestOp& op, const OpCall& call, WeightFormat format = {}) {
  return RunOp(RefKernels(), op.Pack(format).desc, call);
}

OpCall Rows(int64_t rows, int64_t in, int64_t out, std::vector<float> x) {
  OpCall call;
  call.inputs = {HostTensor::F32({rows, in}, x)};
  call.outputs = {{DType::kF32, {rows, out}}};
  call.lengths = {{static_cast<int32_t>(rows)}};
  return call;
}

TEST(RefHandTest, LinearIsExactOnSmallIntegers) {
  TestOp op("linear");
  op.Matrix("linear.w", 2, 5, {1, 2, 3, 4, 5, -1, 0, 1, 0, -2}).Vector("linear.b", {10, -10});
  const OpCall call = Rows(2, 5, 2, {1, 1, 1, 1, 1, 1, 2, 0, -1, 3});
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kBF16x2}) {
    EXPECT_THAT(Floats(RunRef(op, call, {dtype, Layout::kPanel16}).outputs[0]), ElementsAre(25, -12, 26, -17));
  }
}

TEST(RefHandTest, Bf16WeightsAreRoundedAndActivationsAreNot) {
  TestOp op("linear");
  op.Matrix("linear.w", 1, 1, {1.0F + 0x1p-9F}).Set("activation", std::string("none"));  // rounds to 1
  const OpCall call = Rows(1, 1, 1, {1.0F + 0x1p-9F});
  EXPECT_EQ(Floats(RunRef(op, call, {DType::kBF16, Layout::kRowMajor}).outputs[0])[0], 1.0F + 0x1p-9F);
}

// Mean 2, variance 2/3 of (1, 2, 3) with eps 0: ±sqrt(3/2).
TEST(RefHandTest, LayerNorm) {
  TestOp op("layer_norm");
  op.Vector("norm.gamma", {2, 2, 2}).Vector("norm.beta", {0, 1, 0}).Set("norm_eps", 0.0);
  const auto y = Floats(RunRef(op, Rows(1, 3, 3, {1, 2, 3})).outputs[0]);
  EXPECT_THAT(y, ElementsAre(FloatNear(-2.4494898F, 1e-6F), 1.0F, FloatNear(2.4494898F, 1e-6F)));
}

// A large common offset is what a one-pass variance loses: 1e4 + (1, 2, 3) has the same result.
TEST(RefHandTest, LayerNormKeepsVarianceUnderAnOffset) {
  TestOp op("layer_norm");
  op.Vector("norm.gamma", {1, 1, 1}).Vector("norm.beta", {0, 0, 0}).Set("norm_eps", 0.0);
  const auto y = Floats(RunRef(op, Rows(1, 3, 3, {10001, 10002, 10003})).outputs[0]);
  EXPECT_THAT(y, ElementsAre(FloatNear(-1.2247449F, 1e-6F), 0.0F, FloatNear(1.2247449F, 1e-6F)));
}

// Identity matrices, one head of width 1: scores x_i x_j. Row 0 (x = 0) weighs both keys equally: (0 + ln 2) / 2.
// Row 1 (x = a = ln 2): weights 1 : exp(a²).
TEST(RefHandTest, SelfAttention) {
  TestOp op("self_attention");
  for (const char* slot : {"q.w", "k.w", "v.w", "o.w"}) op.Matrix(slot, 1, 1, {1});
  const float a = std::log(2.0F);
  const auto y = Floats(RunRef(op, Rows(2, 1, 1, {0, a})).outputs[0]);
  const float e = std::exp(a * a);
  EXPECT_THAT(y, ElementsAre(FloatNear(a / 2, 1e-7F), FloatNear(a * e / (1 + e), 1e-7F)));
}

// GLU(0) = 0 inside, GLU(b1) = 3 · sigmoid(0) = 1.5 before the start: WeNet's first causal rows.
TEST(RefHandTest, CausalConvolutionStartsWithGluOfTheBias) {
  TestOp op("conv_module");
  op.Matrix("pw1.w", 2, 1, {-3, 0}).Vector("pw1.b", {3, 0}).PlainMatrix("dw.w", 3, 1, {100, 10, 1});
  op.Matrix("pw2.w", 1, 1, {1}).Set("causal", int64_t{1}).Set("activation", std::string("none"));
  OpCall call = Rows(5, 1, 1, {1, 1, 1, 1, 1});  // -3 + 3 = 0: rows inside are 0
  call.lengths = {{3, 2}};                       // the second sequence starts anew
  EXPECT_THAT(Floats(RunRef(op, call).outputs[0]), ElementsAre(165, 150, 0, 165, 150));
  op.Set("causal", int64_t{0});
  EXPECT_THAT(Floats(RunRef(op, call).outputs[0]), ElementsAre(0, 0, 0, 0, 0));
}

TEST(RefHandTest, TopKOrdersTiesByLowerId) {
  TestOp op("log_softmax_topk");
  op.Matrix("head.w", 4, 1, {0, 1, 0, 1});
  OpCall call = Rows(1, 1, 4, {1});
  call.outputs = {{DType::kF32, {1, 4}}, {DType::kS32, {1, 4}}};
  const OpOutcome outcome = RunRef(op, call);
  EXPECT_THAT(Ints(outcome.outputs[1]), ElementsAre(1, 3, 0, 2));
  const float lse = std::log(2 + 2 * std::exp(1.0F));
  EXPECT_NEAR(Floats(outcome.outputs[0])[0], 1 - lse, 1e-6F);
  EXPECT_NEAR(Floats(outcome.outputs[0])[3], -lse, 1e-6F);
}

TEST(RefHandTest, LogSoftmaxSurvivesLargeLogits) {
  TestOp op("log_softmax");
  op.Matrix("head.w", 2, 1, {1, 0});
  const auto y = Floats(RunRef(op, Rows(2, 1, 2, {1e4F, -1e4F})).outputs[0]);
  EXPECT_THAT(y, ElementsAre(0.0F, -1e4F, -1e4F, 0.0F));
}

// Aliasing that the contracts allow.
TEST(RefHandTest, OutputMayBeTheInputOfElementwiseOps) {
  std::vector<float> x = {1, 2, 3, 4};
  const RowSet rows = RowSet::FromLengths(std::vector<int32_t>{2});
  const TensorView view{x.data(), DType::kF32, {2, 2}};
  const TensorView inputs[] = {view}, outputs[] = {view};
  const RowSet* row_sets[] = {&rows};
  std::vector<std::byte> workspace(1024);
  KernelContext context{inputs, outputs, row_sets, nullptr, workspace.data(), nullptr};
  const PackedOp packed = TestOp("add_positions").Pack();
  const auto entries = EntriesFor(RefKernels(), packed.desc);
  ASSERT_EQ(entries.size(), 1u);
  ASSERT_TRUE(entries[0]->create(packed.desc).value()->Run(context).ok());
  EXPECT_THAT(x, ElementsAre(1, 3, FloatNear(3.8414710F, 1e-6F), FloatNear(4.5403023F, 1e-6F)));
}

std::string Refusal(const TestOp& op, const OpCall& call) {
  const PackedOp packed = op.Pack();
  const auto entries = EntriesFor(RefKernels(), packed.desc);
  const OpOutcome outcome = RunEntry(*entries.at(0), packed.desc, call);
  EXPECT_EQ(outcome.status.code(), StatusCode::kInvalidArgument);
  return outcome.status.message();
}

TEST(RefRefusalTest, ShapesAndTypes) {
  Rng rng(1);
  const TestOp op = TestOp("linear", "enc.0.x").RandomLinear(rng, "linear", 3, 4);
  EXPECT_THAT(Refusal(op, Rows(2, 5, 3, rng.Floats(10))),
              AllOf(HasSubstr("enc.0.x"), HasSubstr("input 0"), HasSubstr("[2,5]"), HasSubstr("[-1,4]")));
  EXPECT_THAT(Refusal(op, Rows(2, 4, 4, rng.Floats(8))), AllOf(HasSubstr("output 0"), HasSubstr("[2,4]")));
  OpCall call = Rows(2, 4, 3, rng.Floats(8));
  call.outputs.push_back(call.outputs[0]);
  EXPECT_THAT(Refusal(op, call), HasSubstr("1 inputs and 2 outputs"));
  call = Rows(2, 4, 3, rng.Floats(8));
  call.inputs[0] = HostTensor::S32(rng.Ints(8, 0, 9));
  EXPECT_THAT(Refusal(op, call), HasSubstr("s32 [8]"));
}

TEST(RefRefusalTest, EveryOpRefusesACallWithoutTensors) {
  for (const std::string& op : AllOps()) {
    const KernelCase test = CasesOf(op).front();
    EXPECT_THAT(Refusal(test.op, OpCall()), HasSubstr("0 inputs and 0 outputs")) << op;
  }
}

TEST(RefRefusalTest, MissingRowSets) {
  Rng rng(2);
  for (const std::string op : {"self_attention", "rel_attention"}) {
    OpCall call = Rows(3, 4, 4, rng.Floats(12));
    call.lengths.clear();
    EXPECT_THAT(Refusal(RandomAttention(rng, op, 4, 2, true), call), HasSubstr("needs a row set"));
    call.lengths = {{2}};
    EXPECT_THAT(Refusal(RandomAttention(rng, op, 4, 2, true), call), HasSubstr("row set has 2 rows"));
  }
  OpCall call = Rows(3, 4, 4, rng.Floats(12));
  call.lengths.clear();
  EXPECT_THAT(Refusal(RandomConvModule(rng, 4, 3, true, "none", false), call), HasSubstr("needs a row set"));
  EXPECT_THAT(Refusal(TestOp("add_positions"), call), HasSubstr("needs a row set"));
}

TEST(RefRefusalTest, TokensAndPositionsOutOfRange) {
  Rng rng(3);
  const TestOp op = TestOp("embed").Table("table", 11, 4, rng.Floats(44));
  const auto call = [](int32_t token, int32_t position) {
    OpCall made;
    made.inputs = {HostTensor::S32(std::vector<int32_t>{0, token}), HostTensor::S32(std::vector<int32_t>{0, position})};
    made.outputs = {{DType::kF32, {2, 4}}};
    return made;
  };
  EXPECT_THAT(Refusal(op, call(11, 0)), HasSubstr("token 11 of row 1"));
  EXPECT_THAT(Refusal(op, call(-1, 0)), HasSubstr("token -1"));
  EXPECT_THAT(Refusal(op, call(10, -5)), HasSubstr("position -5"));
}

TEST(RefRefusalTest, TreesThatLeaveThePool) {
  Rng rng(4);
  const TestOp op = RandomAttention(rng, "tree_attention", 4, 2, true);
  const OpCall good = TreeCall(rng, 3, 4);  // pool of 10 rows
  const auto with = [&](size_t input, size_t at, int32_t value) {
    OpCall call = good;
    auto ints = Ints(call.inputs[input]);
    ints.at(at) = value;
    call.inputs[input] = HostTensor::S32(ints);
    return call;
  };
  EXPECT_THAT(Refusal(op, with(1, 2, 10)), HasSubstr("slot 10 of row 2"));
  EXPECT_THAT(Refusal(op, with(1, 0, -1)), HasSubstr("slot -1 of row 0"));
  EXPECT_THAT(Refusal(op, with(3, 0, 10)), HasSubstr("ancestor 10"));
  EXPECT_THAT(Refusal(op, with(2, 3, 99)), HasSubstr("row 2"));
  EXPECT_THAT(Refusal(op, with(2, 1, -1)), HasSubstr("row 0"));
}

TEST(RefRefusalTest, MemoryOfCrossAttention) {
  Rng rng(5);
  TestOp op = RandomAttention(rng, "cross_attention", 4, 2, true);
  OpCall call = Rows(2, 4, 4, rng.Floats(8));
  call.inputs.push_back(HostTensor::F32({3, 8}, rng.Floats(24)));
  call.inputs.push_back(HostTensor::S32(std::vector<int32_t>{0, 2}));
  call.lengths = {{}, {1, 2}};
  EXPECT_THAT(Refusal(op, call), HasSubstr("sequence 2 of row 1"));
  EXPECT_THAT(Refusal(op.Set("key_column", int64_t{1}), call), AllOf(HasSubstr("[3,8]"), HasSubstr("9 columns")));
}

TEST(RefRefusalTest, SubsamplingOfTooFewFramesOrOtherWidths) {
  Rng rng(6);
  const TestOp op = RandomSubsample(rng, "conv2d", 23, 4, 5, false);
  OpCall call = Rows(13, 23, 5, rng.Floats(13 * 23));
  call.lengths = {{7, 6}};
  EXPECT_THAT(Refusal(op, call), AllOf(HasSubstr("sequence 1 has 6 frames")));
  call = Rows(7, 40, 5, rng.Floats(280));
  EXPECT_THAT(Refusal(op, call), HasSubstr("40 features"));
}

TEST(RefRefusalTest, TargetsOutOfRange) {
  Rng rng(7);
  const TestOp op = RandomHead(rng, "target_logp", 4, 11, true);
  const auto call = [&](std::vector<int32_t> rows, std::vector<int32_t> ids) {
    OpCall made;
    made.inputs = {HostTensor::F32({3, 4}, rng.Floats(12)), HostTensor::S32(rows), HostTensor::S32(ids)};
    made.outputs = {{DType::kF32, {static_cast<int64_t>(rows.size())}}};
    return made;
  };
  EXPECT_THAT(Refusal(op, call({0, 3}, {0, 0})), HasSubstr("row 3 of target 1"));
  EXPECT_THAT(Refusal(op, call({-1}, {0})), HasSubstr("row -1"));
  EXPECT_THAT(Refusal(op, call({0, 1}, {0, 11})), HasSubstr("id 11 of target 1"));
  EXPECT_THAT(Refusal(op, call({1, 0}, {0, 1})), HasSubstr("ascend"));
}

TEST(RefRefusalTest, MoreBestThanClasses) {
  Rng rng(8);
  OpCall call = Rows(1, 4, 12, rng.Floats(4));
  call.outputs.push_back({DType::kS32, {1, 12}});
  EXPECT_THAT(Refusal(RandomHead(rng, "log_softmax_topk", 4, 11, true), call), HasSubstr("best 12 of 11"));
}

TEST(RefKernelsTest, HasEveryOp) {
  for (const std::string& op : AllOps()) EXPECT_EQ(EntriesFor(RefKernels(), TestOp(op).Pack().desc).size(), 1u) << op;
  EXPECT_EQ(RefKernels().size(), AllOps().size());
}

}  // namespace
}  // namespace ting::testing
