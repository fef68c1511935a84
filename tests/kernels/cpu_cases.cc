// tests/kernels/cpu_cases.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cpu_cases.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "kernels/subsample_conv2d.h"

namespace ting::testing {
namespace {

using Lengths = std::vector<int32_t>;

int64_t Total(const Lengths& lengths) { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }
std::string Text(const Lengths& lengths) { return fmt::format("{}", fmt::join(lengths, "_")); }
// x [R, D] with its row set, y [R, N].
OpCall RowsCall(Rng& rng, const Lengths& lengths, int64_t D, int64_t N) {
  const int64_t R = Total(lengths);
  OpCall call;
  call.inputs = {HostTensor::F32({R, D}, rng.Floats(R * D))};
  call.lengths = {lengths};
  call.outputs = {{DType::kF32, {R, N}}};
  return call;
}
// Enough sequences that a thread takes groups of whole ones, empty and tiny ones among them.
const Lengths kManyLengths = {0, 57, 3, 60, 0, 1, 58, 70, 56, 0, 61, 5, 56, 64, 60, 59, 0};
const std::vector<Lengths> kRowCounts = {
    {0}, {1}, {2}, {13}, {14}, {15}, {16}, {17}, {29}, {33}, {57}, {3, 0, 40, 1, 70}, kManyLengths};

}  // namespace

std::vector<CpuCase> LinearCases() {
  Rng rng(1);
  std::vector<CpuCase> cases;
  const struct {
    int64_t K, N;
    const char* activation;
  } shapes[] = {{36, 11, "none"}, {144, 48, "relu"}, {256, 260, "swish"}, {17, 33, "gelu"}, {1024, 40, "none"}};
  for (const auto& shape : shapes) {
    for (const Lengths& lengths : kRowCounts) {
      TestOp op("linear");
      op.RandomLinear(rng, "linear", shape.N, shape.K).Set("activation", std::string(shape.activation));
      if (shape.N == 48) op.Erase("linear.b");
      cases.push_back({fmt::format("linear_{}x{}_{}", shape.K, shape.N, Text(lengths)), op,
                       RowsCall(rng, lengths, shape.K, shape.N)});
    }
  }
  return cases;
}

std::vector<CpuCase> FeedForwardCases() {
  Rng rng(2);
  std::vector<CpuCase> cases;
  for (const int64_t D : {36, 144, 256, 35}) {
    for (const Lengths& lengths : kRowCounts) {
      const int64_t F = D == 256 ? 512 : 3 * D;
      TestOp op("feed_forward");
      op.RandomNorm(rng, "norm", D).RandomLinear(rng, "w1", F, D).RandomLinear(rng, "w2", D, F);
      op.Set("residual", D == 144 ? 0.0 : 0.5);
      if (D != 256) op.Set("activation", std::string("relu"));
      if (D != 36) op.RandomNorm(rng, "post", D);
      cases.push_back({fmt::format("feed_forward_{}_{}", D, Text(lengths)), op, RowsCall(rng, lengths, D, D)});
    }
  }
  return cases;
}

std::vector<CpuCase> AttentionCases() {
  Rng rng(3);
  std::vector<CpuCase> cases;
  struct Shape {
    int64_t D;
    int heads;
    const char* op;
    bool folded, packed;
    int chunk, left;
  };
  const Shape shapes[] = {{144, 4, "rel_attention", false, false, 0, -1}, {256, 4, "rel_attention", true, true, 0, -1},
                          {256, 4, "rel_attention", true, true, 4, 1},    {36, 1, "rel_attention", false, true, 16, -1},
                          {64, 4, "self_attention", false, true, 0, -1},  {40, 2, "self_attention", true, false, 3, 0},
                          {35, 5, "rel_attention", false, false, 5, 2}};
  for (const Shape& s : shapes) {
    for (const Lengths& lengths :
         {Lengths{1}, Lengths{15}, Lengths{57, 0, 3}, Lengths{130}, Lengths{300, 16, 29}, kManyLengths}) {
      TestOp op(s.op);
      op.RandomNorm(rng, "norm", s.D).RandomLinear(rng, "o", s.D, s.D);
      if (s.packed) op.RandomLinear(rng, "qkv", 3 * s.D, s.D);
      for (const char* part : {"q", "k", "v"}) {
        if (!s.packed) op.RandomLinear(rng, part, s.D, s.D);
      }
      op.Set("heads", int64_t{s.heads}).Set("folded", int64_t{s.folded}).Set("residual", int64_t{s.D != 64});
      if (std::string(s.op) == "rel_attention") {
        const float limit = std::sqrt(3.0F / static_cast<float>(s.D));
        op.Matrix("pos.w", s.D, s.D, rng.Floats(s.D * s.D, -limit, limit));
        if (s.folded) op.Vector("key_bias", rng.Floats(s.D, -0.2F, 0.2F));
        if (!s.folded) op.Vector("pos_u", rng.Floats(s.D)).Vector("pos_v", rng.Floats(s.D));
      }
      CpuCase one{fmt::format("{}_{}_{}_c{}_l{}_{}", s.op, s.D, s.heads, s.chunk, s.left, Text(lengths)), op,
                  RowsCall(rng, lengths, s.D, s.D)};
      one.call.options.chunk_frames = s.chunk;
      one.call.options.num_left_chunks = s.left;
      cases.push_back(one);
    }
  }
  return cases;
}

std::vector<CpuCase> TreeAttentionCases() {
  Rng rng(4);
  std::vector<CpuCase> cases;
  for (const auto& [D, heads] : {std::pair<int64_t, int>{256, 4}, {36, 3}, {35, 5}}) {
    for (const int32_t U : {1, 9, 33, 70}) {
      TestOp op("tree_attention");
      op.RandomNorm(rng, "norm", D).RandomLinear(rng, "qkv", 3 * D, D).RandomLinear(rng, "o", D, D);
      op.Set("heads", int64_t{heads}).Set("residual", int64_t{1});
      // A random forest: row r's parent is an earlier row or none; pool rows are permuted.
      const int32_t P = U + 5;
      std::vector<int32_t> slots(U), offsets{0}, ancestors, parent(U);
      for (int32_t r = 0; r < U; ++r) slots[r] = P - 1 - r;
      for (int32_t r = 0; r < U; ++r) {
        parent[r] = r == 0 ? -1 : rng.Int(-1, r - 1);
        for (int32_t at = r; at >= 0; at = parent[at]) ancestors.push_back(slots[at]);
        offsets.push_back(static_cast<int32_t>(ancestors.size()));
      }
      CpuCase one{fmt::format("tree_{}_{}", D, U), op, RowsCall(rng, {U}, D, D)};
      HostTensor pool = HostTensor::F32({P, 2 * D}, rng.Floats(P * 2 * D));
      pool.state = true;
      one.call.inputs.insert(one.call.inputs.end(),
                             {HostTensor::S32(slots), HostTensor::S32(offsets), HostTensor::S32(ancestors), pool});
      cases.push_back(one);
    }
  }
  return cases;
}

std::vector<CpuCase> CrossAttentionCases() {
  Rng rng(5);
  std::vector<CpuCase> cases;
  for (const auto& [D, heads] : {std::pair<int64_t, int>{256, 4}, {36, 1}, {35, 5}}) {
    for (const int rows_each : {1, 16, 60}) {
      TestOp op("cross_attention");
      op.RandomNorm(rng, "norm", D).RandomLinear(rng, "q", D, D).RandomLinear(rng, "o", D, D);
      op.Set("heads", int64_t{heads}).Set("residual", int64_t{1}).Set("key_column", int64_t{3});
      const Lengths memory{40, 7, 0, 101};
      std::vector<int32_t> sequence;
      for (const int32_t s : {1, 3, 0, 2}) sequence.insert(sequence.end(), rows_each + s, s);
      const int64_t U = static_cast<int64_t>(sequence.size()), T = Total(memory), M = 2 * D + 9;
      OpCall call;
      call.inputs = {HostTensor::F32({U, D}, rng.Floats(U * D)), HostTensor::F32({T, M}, rng.Floats(T * M)),
                     HostTensor::S32(sequence)};
      call.lengths = {{}, memory, {}};
      call.outputs = {{DType::kF32, {U, D}}};
      cases.push_back({fmt::format("cross_{}_{}", D, rows_each), op, call});
    }
  }
  return cases;
}

std::vector<CpuCase> ConvModuleCases() {
  Rng rng(6);
  std::vector<CpuCase> cases;
  const struct {
    int64_t D, taps;
    bool causal;
    const char* norm;
  } shapes[] = {{256, 15, false, "batch_norm"},
                {144, 8, true, "layer_norm"},
                {36, 15, true, "none"},
                {35, 3, false, "layer_norm"},
                {256, 31, false, "none"}};
  for (const auto& s : shapes) {
    for (const Lengths& lengths : kRowCounts) {
      TestOp op("conv_module");
      op.RandomNorm(rng, "norm", s.D).RandomLinear(rng, "pw1", 2 * s.D, s.D).RandomLinear(rng, "pw2", s.D, s.D);
      op.PlainMatrix("dw.w", s.taps, s.D, rng.Floats(s.taps * s.D, -0.4F, 0.4F)).Vector("dw.b", rng.Floats(s.D));
      op.Set("causal", int64_t{s.causal}).Set("conv_norm", std::string(s.norm)).Set("residual", int64_t{s.D != 36});
      if (std::string(s.norm) != "none") op.RandomNorm(rng, "conv_norm", s.D);
      if (std::string(s.norm) == "batch_norm") {
        op.Vector("conv_norm.mean", rng.Floats(s.D)).Vector("conv_norm.var", rng.Floats(s.D, 0.3F, 2.0F));
      }
      cases.push_back({fmt::format("conv_{}_{}_{}", s.D, s.taps, Text(lengths)), op, RowsCall(rng, lengths, s.D, s.D)});
    }
  }
  return cases;
}

std::vector<CpuCase> SubsampleCases() {
  Rng rng(7);
  std::vector<CpuCase> cases;
  const struct {
    const char* kind;
    int64_t mel, C;
    Lengths lengths;
  } shapes[] = {{"conv2d", 80, 48, {7}},      {"conv2d", 80, 36, {67, 7, 130}}, {"conv2d", 23, 20, {300, 31}},
                {"conv2d2", 40, 16, {50, 9}}, {"conv2d6", 80, 24, {11, 95}},    {"conv2d8", 80, 32, {15, 260}},
                {"conv2d", 80, 35, {40, 20}}, {"conv2d", 80, 256, {200}},       {"conv2d", 80, 64, {67, 7}}};
  for (const auto& s : shapes) {
    const auto stages = SubsampleStages(s.kind).value();
    const int64_t D = s.C;
    TestOp op("subsample_conv2d");
    op.Set("kind", std::string(s.kind)).Set("scale", 4.0);
    for (size_t i = 0; i < stages.size(); ++i) {
      const int64_t taps = int64_t{stages[i].kernel} * stages[i].kernel;
      op.RandomLinear(rng, "conv" + std::to_string(i), s.C, i == 0 ? taps : taps * s.C);
    }
    op.RandomLinear(rng, "out", D, SubsampledFrames(stages, s.mel) * s.C);
    if (s.C != 36) op.Vector("mean", rng.Floats(s.mel)).Vector("istd", rng.Floats(s.mel, 0.5F, 2.0F));
    int64_t T = 0;
    for (const int32_t length : s.lengths) T += SubsampledFrames(stages, length);
    OpCall call = RowsCall(rng, s.lengths, s.mel, D);
    call.outputs = {{DType::kF32, {T, D}}};
    cases.push_back({fmt::format("{}_{}_{}_{}", s.kind, s.mel, s.C, Text(s.lengths)), op, call});
  }
  return cases;
}

std::vector<CpuCase> HeadCases() {
  Rng rng(8);
  std::vector<CpuCase> cases;
  const struct { int64_t D, V, k; } shapes[] = {{36, 11, 11}, {64, 4233, 10}, {35, 529, 256}, {144, 16, 1}};
  for (const auto& s : shapes) {
    for (const Lengths& lengths : {Lengths{0}, Lengths{1}, Lengths{15}, Lengths{40, 77}}) {
      const int64_t R = Total(lengths);
      for (const char* kind : {"log_softmax", "log_softmax_topk", "target_logp"}) {
        TestOp op(kind);
        op.RandomNorm(rng, "norm", s.D).RandomLinear(rng, "head", s.V, s.D).Set("blank", int64_t{3});
        OpCall call = RowsCall(rng, lengths, s.D, s.V);
        call.options.blank_penalty = 0.7F;
        if (op.op() == "log_softmax_topk") call.outputs = {{DType::kF32, {R, s.k}}, {DType::kS32, {R, s.k}}};
        if (op.op() == "target_logp") {
          std::vector<int32_t> rows, ids;
          for (int32_t r = 0; r < R; ++r) {
            for (int i = rng.Int(0, 3); i > 0; --i) rows.push_back(r), ids.push_back(rng.Int(0, s.V - 1));
          }
          if (R > 0) rows.push_back(R - 1), ids.push_back(static_cast<int32_t>(s.V - 1));
          call.inputs.insert(call.inputs.end(), {HostTensor::S32(rows), HostTensor::S32(ids)});
          call.outputs = {{DType::kF32, {static_cast<int64_t>(rows.size())}}};
        }
        cases.push_back({fmt::format("{}_{}_{}_{}", kind, s.D, s.V, Text(lengths)), op, call});
      }
    }
  }
  return cases;
}

std::vector<CpuCase> ElementwiseCases() {
  Rng rng(9);
  std::vector<CpuCase> cases;
  for (const int64_t D : {1, 17, 256, 260}) {
    for (const Lengths& lengths : {Lengths{0}, Lengths{1}, Lengths{5, 0, 140}}) {
      const std::string suffix = fmt::format("_{}_{}", D, Text(lengths));
      TestOp norm("layer_norm");
      norm.RandomNorm(rng, "norm", D);
      if (D > 1) cases.push_back({"layer_norm" + suffix, norm, RowsCall(rng, lengths, D, D)});
      TestOp add("add");
      add.Set("scale", 0.5);
      CpuCase sum{"add" + suffix, add, RowsCall(rng, lengths, D, D)};
      sum.call.inputs.push_back(RowsCall(rng, lengths, D, D).inputs[0]);
      cases.push_back(sum);
      if (D % 2 == 1) continue;
      cases.push_back({"add_positions" + suffix, TestOp("add_positions"), RowsCall(rng, lengths, D, D)});
      const int64_t U = Total(lengths);
      TestOp embed("embed");
      embed.Table("table", 31, D, rng.Floats(31 * D)).Set("scale", 16.0);
      OpCall call;
      call.inputs = {HostTensor::S32(rng.Ints(U, 0, 30)), HostTensor::S32(rng.Ints(U, 0, 300))};
      call.outputs = {{DType::kF32, {U, D}}};
      cases.push_back({"embed" + suffix, embed, call});
    }
  }
  return cases;
}

std::vector<CpuCase> AllCpuCases() {
  std::vector<CpuCase> all;
  for (const auto& cases :
       {LinearCases(), FeedForwardCases(), AttentionCases(), TreeAttentionCases(), CrossAttentionCases(),
        ConvModuleCases(), SubsampleCases(), HeadCases(), ElementwiseCases()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

}  // namespace ting::testing
