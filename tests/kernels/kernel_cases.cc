// tests/kernels/kernel_cases.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/kernel_cases.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "kernels/subsample_conv2d.h"

namespace ting::testing {
namespace {

using Lengths = std::vector<int32_t>;

int64_t Total(const Lengths& lengths) { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }

// {1, 2} -> "1_2"
std::string Join(const Lengths& lengths) {
  std::string text;
  for (const int32_t length : lengths)
    text += (text.empty() ? std::string() : std::string("_")) + std::to_string(length);
  return text;
}

const std::vector<Lengths>& LengthSets() {
  static const std::vector<Lengths> kSets = {{0}, {1}, {33}, {1, 2, 7, 33}, {2, 0, 5}};
  return kSets;
}

struct Width {
  int64_t D, heads, F;
};
constexpr Width kWidths[] = {{4, 2, 9}, {36, 4, 50}, {144, 4, 576}, {256, 4, 1000}};

// Collects cases, one random seed each.
class CaseList {
 public:
  explicit CaseList(std::string op) : op_(std::move(op)) {}
  void Add(const std::string& what, const std::function<KernelCase(Rng&)>& make) {
    const uint32_t seed = 1000 + static_cast<uint32_t>(cases_.size());
    Rng rng(seed);
    cases_.push_back(make(rng));
    cases_.back().name = op_ + " " + what + " seed " + std::to_string(seed);
  }
  std::vector<KernelCase> Take() { return std::move(cases_); }

 private:
  std::string op_;
  std::vector<KernelCase> cases_;
};

HostTensor RandomRows(Rng& rng, int64_t rows, int64_t D) {
  return HostTensor::F32({rows, D}, rng.Floats(rows * D, -2, 2));
}

OpCall RowCall(Rng& rng, int64_t rows, int64_t in, int64_t out) {
  OpCall call;
  call.inputs = {RandomRows(rng, rows, in)};
  call.outputs = {{DType::kF32, {rows, out}}};
  return call;
}

std::vector<KernelCase> ElementwiseCases(const std::string& op) {
  CaseList list(op);
  for (const Width& width : kWidths) {
    for (const Lengths& lengths : LengthSets()) {
      list.Add("D " + std::to_string(width.D) + " rows " + Join(lengths), [&](Rng& rng) {
        KernelCase made{"", TestOp(op), SequenceCall(rng, lengths, width.D)};
        if (op == "layer_norm") made.op.RandomNorm(rng, "norm", width.D);
        if (op == "add") {
          made.op.Set("scale", 0.5);
          made.call.inputs.push_back(RandomRows(rng, Total(lengths), width.D));
        }
        if (op != "add_positions") made.call.lengths.clear();
        return made;
      });
    }
  }
  return list.Take();
}

std::vector<KernelCase> LinearCases() {
  CaseList list("linear");
  const std::string activations[] = {"none", "relu", "swish", "gelu"};
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1},     {4, 4},     {33, 36},  {36, 145},
                                                {144, 144}, {768, 256}, {17, 4864}};
  for (const auto& [N, K] : shapes) {
    for (const int32_t rows : {0, 1, 2, 7, 33}) {
      const std::string activation = activations[(N + rows + 1) % 4];
      const bool bias = rows != 7;
      list.Add(std::to_string(N) + "x" + std::to_string(K) + " rows " + std::to_string(rows) + " " + activation,
               [&, n = N, k = K](Rng& rng) {
                 KernelCase made{"", TestOp("linear"), RowCall(rng, rows, k, n)};
                 made.op.Set("activation", activation).RandomLinear(rng, "linear", n, k);
                 if (!bias) made.op.Erase("linear.b");
                 return made;
               });
    }
  }
  return list.Take();
}

std::vector<KernelCase> FeedForwardCases() {
  CaseList list("feed_forward");
  for (const Width& width : kWidths) {
    for (const int32_t rows : {0, 1, 2, 7, 33}) {
      for (const bool fused : {false, true}) {
        const std::string form = fused ? " fused" : " plain";
        list.Add("D " + std::to_string(width.D) + " rows " + std::to_string(rows) + form, [&](Rng& rng) {
          KernelCase made{"", RandomFeedForward(rng, width.D, width.F, fused), RowCall(rng, rows, width.D, width.D)};
          if (rows == 2) made.op.Set("activation", std::string("relu"));
          if (rows == 7) made.op.Set("activation", std::string("gelu")).Erase("post.gamma").Erase("post.beta");
          if (rows == 33 && fused) made.op.Set("residual", 1.0);
          return made;
        });
      }
    }
  }
  return list.Take();
}

std::vector<KernelCase> SelfAttentionCases(const std::string& op) {
  CaseList list(op);
  const StepOptions masks[] = {{0, -1, 0}, {4, -1, 0}, {16, 1, 0}, {1, 0, 0}, {5, 2, 0}};
  for (const Width& width : kWidths) {
    for (const Lengths& lengths : LengthSets()) {
      for (size_t i = 0; i < std::size(masks); ++i) {
        if (i > 0 && Total(lengths) < 33) continue;  // short ones show no more
        const bool fused = (i + lengths.size() + width.D / 4) % 2 == 0;
        list.Add("D " + std::to_string(width.D) + " rows " + Join(lengths) + " chunk " +
                     std::to_string(masks[i].chunk_frames) + " left " + std::to_string(masks[i].num_left_chunks) +
                     (fused ? " fused" : " plain"),
                 [&](Rng& rng) {
                   KernelCase made{"", RandomAttention(rng, op, width.D, width.heads, fused),
                                   SequenceCall(rng, lengths, width.D)};
                   made.call.options = masks[i];
                   return made;
                 });
      }
    }
  }
  return list.Take();
}

std::vector<KernelCase> TreeCases() {
  CaseList list("tree_attention");
  for (const Width& width : kWidths) {
    for (const int64_t U : {0, 1, 2, 7, 33}) {
      const bool fused = U != 2 && U != 33;
      list.Add("D " + std::to_string(width.D) + " rows " + std::to_string(U) + (fused ? " fused" : " plain"),
               [&](Rng& rng) {
                 return KernelCase{"", RandomAttention(rng, "tree_attention", width.D, width.heads, fused),
                                   TreeCall(rng, U, width.D)};
               });
    }
  }
  return list.Take();
}

// Rows of the decoder spread over the sequences of `lengths`, in order; key_column in the middle of other layers.
OpCall CrossCall(Rng& rng, const Lengths& lengths, int64_t U, int64_t D, int64_t key_column) {
  OpCall call = RowCall(rng, U, D, D);
  const int64_t M = key_column + 2 * D + (key_column > 0 ? 5 : 0);
  call.inputs.push_back(RandomRows(rng, Total(lengths), M));
  std::vector<int32_t> sequence(U);
  for (int64_t r = 0; r < U; ++r) sequence[r] = static_cast<int32_t>(r * static_cast<int64_t>(lengths.size()) / U);
  call.inputs.push_back(HostTensor::S32(sequence));
  call.lengths = {{}, lengths};
  return call;
}

std::vector<KernelCase> CrossCases() {
  CaseList list("cross_attention");
  for (const Width& width : kWidths) {
    for (const Lengths& lengths : LengthSets()) {
      for (const int64_t U : {0, 1, 9}) {
        const bool fused = U != 1;
        list.Add("D " + std::to_string(width.D) + " memory " + Join(lengths) + " rows " + std::to_string(U),
                 [&](Rng& rng) {
                   const int64_t key_column = fused ? 2 * width.D : 0;
                   KernelCase made{"", RandomAttention(rng, "cross_attention", width.D, width.heads, fused),
                                   CrossCall(rng, lengths, U, width.D, key_column)};
                   made.op.Set("key_column", key_column);
                   return made;
                 });
      }
    }
  }
  return list.Take();
}

std::vector<KernelCase> ConvCases() {
  struct Shape {
    int64_t taps;
    bool causal;
    const char* conv_norm;
  };
  constexpr Shape kShapes[] = {{8, true, "none"},         {8, true, "batch_norm"}, {15, true, "layer_norm"},
                               {15, false, "batch_norm"}, {15, false, "none"},     {31, false, "layer_norm"},
                               {1, false, "none"}};
  CaseList list("conv_module");
  for (const Width& width : kWidths) {
    for (const Shape& shape : kShapes) {
      for (const Lengths& lengths : LengthSets()) {
        const bool fused = (shape.taps + static_cast<int64_t>(lengths.size())) % 2 == 0;
        list.Add("D " + std::to_string(width.D) + " taps " + std::to_string(shape.taps) +
                     (shape.causal ? " causal " : " symmetric ") + shape.conv_norm + " rows " + Join(lengths) +
                     (fused ? " fused" : " plain"),
                 [&](Rng& rng) {
                   return KernelCase{"",
                                     RandomConvModule(rng, width.D, shape.taps, shape.causal, shape.conv_norm, fused),
                                     SequenceCall(rng, lengths, width.D)};
                 });
      }
    }
  }
  return list.Take();
}

std::vector<KernelCase> SubsampleCases() {
  struct Shape {
    const char* kind;
    int64_t num_mel, C, D;
    Lengths lengths;
  };
  const Shape shapes[] = {
      {"conv2d", 80, 36, 36, {7}},       {"conv2d", 80, 36, 36, {8, 40, 7}},   {"conv2d", 23, 4, 5, {71, 9}},
      {"conv2d", 80, 144, 144, {60}},    {"conv2d2", 23, 4, 7, {7, 30, 8}},    {"conv2d2", 80, 36, 36, {11}},
      {"conv2d6", 80, 36, 36, {11, 47}}, {"conv2d6", 23, 5, 4, {12, 11, 60}},  {"conv2d8", 80, 36, 36, {15, 64}},
      {"conv2d8", 40, 4, 9, {16, 31}},   {"conv2d", 80, 17, 33, {19, 20, 21}}, {"conv2d", 80, 64, 48, {7, 31, 12}},
      {"conv2d", 41, 128, 32, {8, 45}},  {"conv2d", 41, 64, 128, {2060, 30}},
  };
  CaseList list("subsample_conv2d");
  for (const Shape& shape : shapes) {
    for (const bool cmvn : {true, false}) {
      list.Add(std::string(shape.kind) + " mel " + std::to_string(shape.num_mel) + " C " + std::to_string(shape.C) +
                   " frames " + Join(shape.lengths) + (cmvn ? " cmvn" : ""),
               [&](Rng& rng) {
                 OpCall call;
                 const int64_t F = Total(shape.lengths);
                 call.inputs = {HostTensor::F32({F, shape.num_mel}, rng.Floats(F * shape.num_mel, -3, 3))};
                 call.lengths = {shape.lengths};
                 int64_t T = 0;
                 const auto stages = SubsampleStages(shape.kind).value();
                 for (const int32_t length : shape.lengths) T += SubsampledFrames(stages, length);
                 call.outputs = {{DType::kF32, {T, shape.D}}};
                 return KernelCase{"", RandomSubsample(rng, shape.kind, shape.num_mel, shape.C, shape.D, cmvn), call};
               });
    }
  }
  return list.Take();
}

std::vector<KernelCase> EmbedCases() {
  CaseList list("embed");
  for (const Width& width : kWidths) {
    for (const int32_t U : {0, 1, 2, 33}) {
      list.Add("D " + std::to_string(width.D) + " rows " + std::to_string(U), [&](Rng& rng) {
        const int64_t V = width.D == 36 ? 4233 : 11;
        OpCall call;
        call.inputs = {HostTensor::S32(rng.Ints(U, 0, static_cast<int32_t>(V - 1))),
                       HostTensor::S32(rng.Ints(U, 0, 5000))};
        call.outputs = {{DType::kF32, {U, width.D}}};
        TestOp op("embed");
        op.Set("scale", 12.0).Table("table", V, width.D, rng.Floats(V * width.D));
        return KernelCase{"", op, call};
      });
    }
  }
  return list.Take();
}

// Outputs of the three heads; targets: about 1.5 a row, some rows without.
void HeadCall(Rng& rng, const std::string& op, int64_t rows, int64_t V, int64_t k, OpCall& call) {
  if (op == "log_softmax_topk") call.outputs = {{DType::kF32, {rows, k}}, {DType::kS32, {rows, k}}};
  if (op != "target_logp") return;
  const int64_t G = rows * 3 / 2;
  auto at = rng.Ints(G, 0, static_cast<int32_t>(std::max<int64_t>(rows - 1, 0)));
  std::sort(at.begin(), at.end());
  call.inputs.push_back(HostTensor::S32(at));
  call.inputs.push_back(HostTensor::S32(rng.Ints(G, 0, static_cast<int32_t>(V - 1))));
  call.outputs = {{DType::kF32, {G}}};
}

std::vector<KernelCase> HeadCases(const std::string& op) {
  CaseList list(op);
  for (const auto& [D, V] : {std::pair<int64_t, int64_t>{4, 11}, {36, 33}, {144, 4233}, {256, 500}}) {
    for (const int64_t rows : {0, 1, 2, 7, 33}) {
      const bool fused = rows != 2 && rows != 7;
      list.Add("D " + std::to_string(D) + " V " + std::to_string(V) + " rows " + std::to_string(rows) +
                   (fused ? " fused" : " plain"),
               [&, D = D, V = V](Rng& rng) {
                 KernelCase made{"", RandomHead(rng, op, D, V, fused), RowCall(rng, rows, D, V)};
                 HeadCall(rng, op, rows, V, rows == 7 ? V : 10, made.call);
                 if (rows == 33) made.op.Set("blank", int64_t{0}), made.call.options.blank_penalty = 1.5F;
                 return made;
               });
    }
  }
  return list.Take();
}

// Rows [first, first + count) of a tensor.
HostTensor Slice(const HostTensor& tensor, int64_t first, int64_t count) {
  HostTensor out{tensor.dtype, {count}, {}, tensor.state};
  if (tensor.shape.rank() == 2) out.shape = {count, tensor.shape[1]};
  const size_t row = tensor.shape[0] == 0 ? 0 : tensor.bytes.size() / tensor.shape[0];
  out.bytes.assign(tensor.bytes.begin() + first * row, tensor.bytes.begin() + (first + count) * row);
  return out;
}

std::vector<OpCall> SplitSequences(const KernelCase& whole) {
  std::vector<OpCall> parts;
  int64_t first = 0;
  for (const int32_t length : whole.call.lengths[0]) {
    OpCall part = whole.call;
    part.inputs[0] = Slice(whole.call.inputs[0], first, length);
    part.lengths = {{length}};
    int64_t rows = length;
    if (whole.op.op() == "subsample_conv2d") {
      rows = SubsampledFrames(ParseSubsampleConv2d(whole.op.Pack().desc).value().stages, length);
    }
    part.outputs[0].shape = {rows, part.outputs[0].shape[1]};
    parts.push_back(std::move(part));
    first += length;
  }
  return parts;
}

void SplitTreeRow(const OpCall& whole, int64_t row, OpCall& part) {
  const int32_t first = whole.inputs[2].ints()[row], last = whole.inputs[2].ints()[row + 1];
  const int32_t offsets[] = {0, last - first};
  part.inputs[2] = HostTensor::S32(offsets);
  part.inputs[3] = Slice(whole.inputs[3], first, last - first);
}

std::vector<OpCall> SplitRows(const KernelCase& whole) {
  const std::string& op = whole.op.op();
  const int64_t rows = op == "target_logp" ? whole.call.inputs[1].shape[0] : whole.call.inputs[0].shape[0];
  std::vector<OpCall> parts;
  for (int64_t row = 0; row < rows; ++row) {
    OpCall part = whole.call;
    for (size_t i = 0; i < part.inputs.size(); ++i) {
      const bool shared =
          (op == "cross_attention" && i == 1) || (op == "tree_attention" && i >= 2) || (op == "target_logp" && i == 0);
      if (!shared) part.inputs[i] = Slice(whole.call.inputs[i], row, 1);
    }
    if (op == "tree_attention") SplitTreeRow(whole.call, row, part);
    for (OutputSpec& output : part.outputs)
      output.shape = output.shape.rank() == 2 ? Shape{1, output.shape[1]} : Shape{1};
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

const std::vector<std::string>& AllOps() {
  static const std::vector<std::string> kOps = {
      "add",           "add_positions",    "layer_norm",      "linear",      "feed_forward",     "self_attention",
      "rel_attention", "tree_attention",   "cross_attention", "conv_module", "subsample_conv2d", "embed",
      "log_softmax",   "log_softmax_topk", "target_logp"};
  return kOps;
}

std::vector<KernelCase> CasesOf(const std::string& op) {
  if (op == "add" || op == "add_positions" || op == "layer_norm") return ElementwiseCases(op);
  if (op == "linear") return LinearCases();
  if (op == "feed_forward") return FeedForwardCases();
  if (op == "self_attention" || op == "rel_attention") return SelfAttentionCases(op);
  if (op == "tree_attention") return TreeCases();
  if (op == "cross_attention") return CrossCases();
  if (op == "conv_module") return ConvCases();
  if (op == "subsample_conv2d") return SubsampleCases();
  if (op == "embed") return EmbedCases();
  return HeadCases(op);
}

TestOp RandomAttention(Rng& rng, const std::string& op, int64_t D, int64_t heads, bool fused) {
  TestOp node(op);
  node.Set("heads", heads).RandomLinear(rng, "o", D, D);
  const bool packed = fused && op != "cross_attention";
  if (packed) {
    node.RandomLinear(rng, "qkv", 3 * D, D);
  } else {
    node.RandomLinear(rng, "q", D, D);
    if (op != "cross_attention") node.RandomLinear(rng, "k", D, D).RandomLinear(rng, "v", D, D);
  }
  if (op == "rel_attention") {
    node.RandomLinear(rng, "pos", D, D).Erase("pos.b");
    if (fused) {
      node.Vector("key_bias", rng.Floats(D));
    } else {
      node.Vector("pos_u", rng.Floats(D)).Vector("pos_v", rng.Floats(D));
    }
  }
  if (fused) node.Set("residual", int64_t{1}).Set("folded", int64_t{1}).RandomNorm(rng, "norm", D);
  return node;
}

TestOp RandomConvModule(Rng& rng, int64_t D, int64_t taps, bool causal, const std::string& conv_norm, bool fused) {
  TestOp node("conv_module");
  node.Set("causal", int64_t{causal}).Set("conv_norm", conv_norm);
  node.RandomLinear(rng, "pw1", 2 * D, D).RandomLinear(rng, "pw2", D, D);
  node.PlainMatrix("dw.w", taps, D, rng.Floats(taps * D, -0.5F, 0.5F)).Vector("dw.b", rng.Floats(D));
  if (conv_norm != "none") node.RandomNorm(rng, "conv_norm", D);
  if (conv_norm == "batch_norm") {
    node.Vector("conv_norm.mean", rng.Floats(D)).Vector("conv_norm.var", rng.Floats(D, 0.5F, 1.5F));
  }
  if (fused) node.Set("residual", int64_t{1}).RandomNorm(rng, "norm", D);
  return node;
}

TestOp RandomFeedForward(Rng& rng, int64_t D, int64_t F, bool fused) {
  TestOp node("feed_forward");
  node.RandomLinear(rng, "w1", F, D).RandomLinear(rng, "w2", D, F);
  if (fused) node.Set("residual", 0.5).RandomNorm(rng, "norm", D).RandomNorm(rng, "post", D);
  return node;
}

TestOp RandomSubsample(Rng& rng, const std::string& kind, int64_t num_mel, int64_t C, int64_t D, bool cmvn) {
  TestOp node("subsample_conv2d");
  node.Set("kind", kind).Set("scale", 1.5);
  const auto stages = SubsampleStages(kind).value();
  for (size_t i = 0; i < stages.size(); ++i) {
    const int64_t taps = int64_t{stages[i].kernel} * stages[i].kernel;
    node.RandomLinear(rng, "conv" + std::to_string(i), C, taps * (i == 0 ? 1 : C));
  }
  node.RandomLinear(rng, "out", D, SubsampledFrames(stages, num_mel) * C);
  if (cmvn) node.Vector("mean", rng.Floats(num_mel)).Vector("istd", rng.Floats(num_mel, 0.5F, 1.5F));
  return node;
}

TestOp RandomHead(Rng& rng, const std::string& op, int64_t D, int64_t V, bool fused) {
  TestOp node(op);
  node.RandomLinear(rng, "head", V, D);
  if (fused) node.RandomNorm(rng, "norm", D);
  return node;
}

OpCall SequenceCall(Rng& rng, const std::vector<int32_t>& lengths, int64_t D) {
  OpCall call = RowCall(rng, Total(lengths), D, D);
  call.lengths = {lengths};
  return call;
}

OpCall TreeCall(Rng& rng, int64_t U, int64_t D) {
  constexpr int64_t kEarlier = 3;  // pool rows of a path that an earlier step stored
  const int64_t P = U + kEarlier + 4;
  std::vector<int32_t> pool_rows(P);
  std::iota(pool_rows.begin(), pool_rows.end(), 0);
  for (int64_t i = P - 1; i > 0; --i) std::swap(pool_rows[i], pool_rows[rng.Int(0, static_cast<int32_t>(i))]);
  const std::vector<int32_t> earlier(pool_rows.begin(), pool_rows.begin() + kEarlier);
  const std::vector<int32_t> slots(pool_rows.begin() + kEarlier, pool_rows.begin() + kEarlier + U);
  std::vector<std::vector<int32_t>> paths;
  std::vector<int32_t> offsets = {0}, ancestors;
  for (int64_t r = 0; r < U; ++r) {
    const int32_t parent = rng.Int(-2, static_cast<int32_t>(r) - 1);  // -2: a new root, -1: after the earlier path
    paths.push_back(parent == -2 ? std::vector<int32_t>() : parent == -1 ? earlier : paths[parent]);
    paths.back().push_back(slots[r]);
    ancestors.insert(ancestors.end(), paths.back().begin(), paths.back().end());
    offsets.push_back(static_cast<int32_t>(ancestors.size()));
  }
  OpCall call = RowCall(rng, U, D, D);
  for (const std::vector<int32_t>& ints : {slots, offsets, ancestors}) call.inputs.push_back(HostTensor::S32(ints));
  call.inputs.push_back(RandomRows(rng, P, 2 * D));
  call.inputs.back().state = true;
  return call;
}

std::vector<OpCall> SplitCall(const KernelCase& whole) {
  const bool sequences = !whole.call.lengths.empty() && !whole.call.lengths[0].empty();
  return sequences ? SplitSequences(whole) : SplitRows(whole);
}

}  // namespace ting::testing
