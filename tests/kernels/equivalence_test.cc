// tests/kernels/equivalence_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// What the passes rely on: a node before and after each rewrite computes the same. The rewrites are done here by hand,
// in f64, so that a wrong pass and a wrong kernel cannot agree. Tolerance: the rewritten weights are rounded to f32
// once more (2^-24 each, summed over at most 256 terms): 1e-5 of the result's scale.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ref/ref_kernels.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/kernel_testing.h"

namespace ting::testing {
namespace {

constexpr Tolerance kTolerance = {1e-6F, 1e-5F};
const std::vector<int32_t> kLengths = {1, 2, 7, 33};
constexpr int64_t kRows = 43;

struct Width {
  int64_t D, heads;
};
constexpr Width kWidths[] = {{4, 2}, {36, 4}, {144, 4}};

HostTensor RunRef(const TestOp& op, const OpCall& call) { return RunOp(RefKernels(), op.Pack().desc, call).outputs[0]; }

std::vector<float> Joined(const TestOp& op, const std::string& suffix) {
  std::vector<float> all;
  for (const char* name : {"q", "k", "v"}) {
    const auto& part = op.values(name + suffix);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

// q, k, v -> qkv (pack_qkv).
TestOp WithPackedQkv(TestOp op, int64_t D) {
  op.Matrix("qkv.w", 3 * D, D, Joined(op, ".w")).Vector("qkv.b", Joined(op, ".b"));
  for (const char* slot : {"q.w", "q.b", "k.w", "k.b", "v.w", "v.b"}) op.Erase(slot);
  return op;
}

// q -> (q + u) / sqrt(Dh); key_bias = (v - u) / sqrt(Dh); u = 0 without relative positions.
TestOp WithFoldedScale(TestOp op, int64_t D, int64_t heads) {
  const double scale = 1 / std::sqrt(static_cast<double>(D) / static_cast<double>(heads));
  const bool relative = op.op() == "rel_attention";
  auto weight = op.values("q.w"), bias = op.values("q.b");
  for (float& value : weight) value = static_cast<float>(value * scale);
  for (int64_t d = 0; d < D; ++d) {
    bias[d] = static_cast<float>((static_cast<double>(bias[d]) + (relative ? op.values("pos_u")[d] : 0.0F)) * scale);
  }
  if (relative) {
    std::vector<float> key_bias(D);
    for (int64_t d = 0; d < D; ++d) {
      key_bias[d] = static_cast<float>((static_cast<double>(op.values("pos_v")[d]) - op.values("pos_u")[d]) * scale);
    }
    op.Vector("key_bias", key_bias).Erase("pos_u").Erase("pos_v");
  }
  return op.Matrix("q.w", D, D, weight).Vector("q.b", bias).Set("folded", int64_t{1});
}

// norm -> op -> add as three nodes: what a node with norm.* and residual = scale must equal.
HostTensor Unfused(const TestOp& fused, const OpCall& call, double scale, TestOp op) {
  TestOp norm("layer_norm");
  norm.Vector("norm.gamma", fused.values("norm.gamma")).Vector("norm.beta", fused.values("norm.beta"));
  OpCall rows = call;
  rows.inputs.resize(1);
  rows.lengths.clear();
  rows.outputs[0].shape = call.inputs[0].shape;
  OpCall inner = call;
  inner.inputs[0] = RunRef(norm, rows);
  op.Erase("norm.gamma").Erase("norm.beta").Set("residual", int64_t{0});
  rows.inputs.push_back(RunRef(op, inner));
  return RunRef(TestOp("add").Set("scale", scale), rows);
}

class AttentionEquivalenceTest : public ::testing::TestWithParam<const char*> {};

TEST_P(AttentionEquivalenceTest, PackedFoldedAndFusedFormsAgree) {
  for (const Width& width : kWidths) {
    Rng rng(77);
    const TestOp plain = RandomAttention(rng, GetParam(), width.D, width.heads, false);
    OpCall call =
        GetParam() == std::string("tree_attention") ? TreeCall(rng, 33, width.D) : SequenceCall(rng, kLengths, width.D);
    call.options = {4, 1, 0};
    const HostTensor expected = RunRef(plain, call);
    ExpectSameBits(RunRef(WithPackedQkv(plain, width.D), call), expected, "packed");
    const TestOp folded = WithFoldedScale(plain, width.D, width.heads);
    ExpectClose(RunRef(folded, call), expected, kTolerance, "folded");
    ExpectClose(RunRef(WithPackedQkv(folded, width.D), call), expected, kTolerance, "packed and folded");
    TestOp fused = WithPackedQkv(folded, width.D);
    fused.RandomNorm(rng, "norm", width.D).Set("residual", int64_t{1});
    ExpectClose(RunRef(fused, call), Unfused(fused, call, 1, plain), kTolerance, "norm and residual");
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, AttentionEquivalenceTest,
                         ::testing::Values("self_attention", "rel_attention", "tree_attention"),
                         [](const auto& info) { return std::string(info.param); });

// A tree is a shorthand: each path alone, as one causal sequence, gives the same rows. Causal self-attention is the
// chunk mask of chunk 1 with all left context.
TEST(TreeAttentionEquivalenceTest, ChainIsCausalSelfAttention) {
  Rng rng(78);
  const int64_t U = 9, D = 36;
  TestOp tree = RandomAttention(rng, "tree_attention", D, 4, false);
  OpCall sequence = SequenceCall(rng, {static_cast<int32_t>(U)}, D);
  sequence.options = {1, -1, 0};
  OpCall chain = sequence;
  std::vector<int32_t> slots, offsets = {0}, ancestors;
  for (int32_t r = 0; r < U; ++r) {
    slots.push_back(static_cast<int32_t>(U) - 1 - r);
    ancestors.insert(ancestors.end(), slots.begin(), slots.end());
    offsets.push_back(static_cast<int32_t>(ancestors.size()));
  }
  for (const auto& ints : {slots, offsets, ancestors}) chain.inputs.push_back(HostTensor::S32(ints));
  chain.inputs.push_back(HostTensor::F32({U, 2 * D}, rng.Floats(U * 2 * D)));
  chain.inputs.back().state = true;
  chain.lengths.clear();
  TestOp self("self_attention");
  self.Set("heads", int64_t{4});
  for (const std::string name : {"q", "k", "v", "o"}) {
    self.Matrix(name + ".w", D, D, tree.values(name + ".w")).Vector(name + ".b", tree.values(name + ".b"));
  }
  ExpectSameBits(RunRef(tree, chain), RunRef(self, sequence));
}

TEST(FeedForwardEquivalenceTest, FusedFormIsThreeNodes) {
  for (const Width& width : kWidths) {
    Rng rng(79);
    TestOp fused = RandomFeedForward(rng, width.D, 3 * width.D + 1, true);
    fused.Erase("post.gamma").Erase("post.beta");
    OpCall call = SequenceCall(rng, kLengths, width.D);
    call.lengths.clear();
    ExpectSameBits(RunRef(fused, call), Unfused(fused, call, 0.5, fused), "norm and half residual");
    TestOp with_post = fused;
    with_post.RandomNorm(rng, "post", width.D);
    TestOp post("layer_norm");
    post.Vector("norm.gamma", with_post.values("post.gamma")).Vector("norm.beta", with_post.values("post.beta"));
    OpCall second = call;
    second.inputs[0] = RunRef(fused, call);
    ExpectSameBits(RunRef(with_post, call), RunRef(post, second), "post norm");
  }
}

// w1, activation and w2 as two linears.
TEST(FeedForwardEquivalenceTest, IsTwoLinears) {
  Rng rng(80);
  const int64_t D = 36, F = 50;
  TestOp ffn = RandomFeedForward(rng, D, F, false);
  OpCall call = SequenceCall(rng, kLengths, D);
  call.lengths.clear();
  OpCall first = call, second = call;
  first.outputs[0].shape = {kRows, F};
  TestOp w1("linear"), w2("linear");
  w1.Matrix("linear.w", F, D, ffn.values("w1.w")).Vector("linear.b", ffn.values("w1.b"));
  w1.Set("activation", std::string("swish"));
  w2.Matrix("linear.w", D, F, ffn.values("w2.w")).Vector("linear.b", ffn.values("w2.b"));
  second.inputs[0] = RunRef(w1, first);
  ExpectSameBits(RunRef(ffn, call), RunRef(w2, second));
}

// BatchNorm is affine a channel: dw' = dw * s, bias' = (bias - mean) * s + beta, s = gamma / sqrt(var + eps).
TestOp WithFoldedBatchNorm(TestOp op, int64_t taps, int64_t D) {
  auto weight = op.values("dw.w"), bias = op.values("dw.b");
  for (int64_t d = 0; d < D; ++d) {
    const double s = op.values("conv_norm.gamma")[d] / std::sqrt(op.values("conv_norm.var")[d] + 1e-5);
    for (int64_t k = 0; k < taps; ++k) weight[k * D + d] = static_cast<float>(weight[k * D + d] * s);
    bias[d] = static_cast<float>((static_cast<double>(bias[d]) - op.values("conv_norm.mean")[d]) * s +
                                 op.values("conv_norm.beta")[d]);
  }
  for (const char* slot : {"gamma", "beta", "mean", "var"}) op.Erase(std::string("conv_norm.") + slot);
  return op.PlainMatrix("dw.w", taps, D, weight).Vector("dw.b", bias).Set("conv_norm", std::string("none"));
}

TEST(ConvModuleEquivalenceTest, BatchNormFoldsIntoTheTaps) {
  for (const Width& width : kWidths) {
    for (const auto& [taps, causal] : {std::pair<int64_t, bool>{8, true}, {15, true}, {15, false}}) {
      Rng rng(81);
      const TestOp plain = RandomConvModule(rng, width.D, taps, causal, "batch_norm", false);
      const OpCall call = SequenceCall(rng, kLengths, width.D);
      ExpectClose(RunRef(WithFoldedBatchNorm(plain, taps, width.D), call), RunRef(plain, call), kTolerance);
    }
  }
}

TEST(ConvModuleEquivalenceTest, FusedFormIsThreeNodes) {
  for (const char* conv_norm : {"none", "layer_norm", "batch_norm"}) {
    Rng rng(82);
    const TestOp fused = RandomConvModule(rng, 36, 15, true, conv_norm, true);
    const OpCall call = SequenceCall(rng, kLengths, 36);
    ExpectSameBits(RunRef(fused, call), Unfused(fused, call, 1, fused), conv_norm);
  }
}

// CMVN is affine a frequency: folded into conv0 it needs no weights of its own. istd_f must be the same for all f,
// because a convolution's taps slide over frequency; what the pass does with others, its own test says.
TEST(SubsampleEquivalenceTest, UniformCmvnFoldsIntoTheFirstConvolution) {
  Rng rng(83);
  const int64_t C = 4;
  TestOp plain = RandomSubsample(rng, "conv2d", 23, C, 5, false);
  OpCall call;
  call.inputs = {HostTensor::F32({30, 23}, rng.Floats(30 * 23, -3, 3))};
  call.lengths = {{11, 19}};
  call.outputs = {{DType::kF32, {2 + 4, 5}}};
  TestOp with_cmvn = plain;
  with_cmvn.Vector("mean", std::vector<float>(23, 0.75F)).Vector("istd", std::vector<float>(23, 0.5F));
  auto weight = plain.values("conv0.w"), bias = plain.values("conv0.b");
  for (int64_t c = 0; c < C; ++c) {
    for (int64_t tap = 0; tap < 9; ++tap) {
      weight[c * 9 + tap] *= 0.5F;
      bias[c] -= weight[c * 9 + tap] * 0.75F;
    }
  }
  plain.Matrix("conv0.w", C, 9, weight).Vector("conv0.b", bias);
  ExpectClose(RunRef(plain, call), RunRef(with_cmvn, call), kTolerance);
}

// The three readings of one vocabulary layer.
TEST(OutputHeadEquivalenceTest, TopKAndTargetsReadTheSameMatrix) {
  for (const auto& [D, V] : {std::pair<int64_t, int64_t>{36, 11}, {144, 4233}}) {
    Rng rng(84);
    OpCall call = SequenceCall(rng, {7}, D);
    call.lengths.clear();
    call.outputs = {{DType::kF32, {7, V}}};
    call.options.blank_penalty = 1.25F;
    TestOp full = RandomHead(rng, "log_softmax", D, V, true), topk("log_softmax_topk"), targets("target_logp");
    full.Set("blank", int64_t{0});
    for (TestOp* op : {&topk, &targets}) {
      op->Matrix("head.w", V, D, full.values("head.w")).Vector("head.b", full.values("head.b"));
      op->Vector("norm.gamma", full.values("norm.gamma")).Vector("norm.beta", full.values("norm.beta"));
      op->Set("blank", int64_t{0});
    }
    const HostTensor logp = RunRef(full, call);
    OpCall best = call;
    best.outputs = {{DType::kF32, {7, 10}}, {DType::kS32, {7, 10}}};
    const OpOutcome outcome = RunOp(RefKernels(), topk.Pack().desc, best);
    OpCall gather = call;
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < 70; ++i) rows.push_back(i / 10);
    gather.inputs.push_back(HostTensor::S32(rows));
    gather.inputs.push_back(HostTensor::S32(outcome.outputs[1].ints()));
    gather.outputs = {{DType::kF32, {70}}};
    const HostTensor gathered = RunRef(targets, gather);
    for (int i = 0; i < 70; ++i) {
      const int32_t id = outcome.outputs[1].ints()[i];
      EXPECT_EQ(outcome.outputs[0].floats()[i], logp.floats()[i / 10 * V + id]);
      EXPECT_EQ(gathered.floats()[i], logp.floats()[i / 10 * V + id]);
    }
  }
}

}  // namespace
}  // namespace ting::testing
