// tests/kernels/cpu_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The CPU backend against ref, for each instruction set that this machine runs, with 1, 2 and 3 threads, in every
// weight format; and its promise that a row's bits depend neither on the rows beside it nor on the threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/isa/isa.h"
#include "kernels/ref/ref_kernels.h"
#include "kernels/subsample_conv2d.h"
#include "tests/kernels/cpu_cases.h"
#include "tests/support/scoped_isa.h"

namespace ting::testing {
namespace {

struct PoolStream {
  explicit PoolStream(int threads) : pool(threads), stream(pool) {}
  ThreadPool pool;
  CpuStream stream;
};

// k best: equal but for places where rounding may swap two neighbours; an id must carry its own log-probability.
void ExpectSameTopK(const OpOutcome& actual, const OpOutcome& expected, Tolerance tolerance, const std::string& what) {
  ExpectClose(actual.outputs[0], expected.outputs[0], tolerance, what);
  const auto a = actual.outputs[1].ints(), e = expected.outputs[1].ints();
  const auto values = expected.outputs[0].floats();
  const int64_t k = expected.outputs[1].shape[1];
  for (size_t i = 0; i < e.size(); ++i) {
    if (a[i] == e[i]) continue;
    const float margin = 2 * (tolerance.absolute + tolerance.relative * std::abs(values[i]));
    const size_t column = i % k;
    const bool tie = (column > 0 && std::abs(values[i - 1] - values[i]) < margin) ||
                     (column + 1 == static_cast<size_t>(k) || std::abs(values[i + 1] - values[i]) < margin);
    EXPECT_TRUE(tie) << what << ": entry " << i << " is " << a[i] << ", expected " << e[i];
  }
}

// ref is slow and the same for every instruction set and layout.
const OpOutcome& RefOutcome(const CpuCase& one, DType dtype) {
  static std::map<std::string, OpOutcome> outcomes;
  const std::string key = one.name + std::string(DTypeName(dtype));
  auto found = outcomes.find(key);
  if (found == outcomes.end()) {
    const PackedOp packed = one.op.Pack({dtype, Layout::kRowMajor});
    found = outcomes.emplace(key, RunOp(RefKernels(), packed.desc, one.call)).first;
  }
  return found->second;
}

void ExpectLikeRef(const CpuCase& one, WeightFormat format, Stream* stream, const std::string& what) {
  const PackedOp packed = one.op.Pack(format);
  const OpOutcome& expected = RefOutcome(one, format.dtype);
  const OpOutcome actual = RunOp(CpuKernels(), packed.desc, one.call, stream);
  const Tolerance tolerance = ToleranceOf(one.op.op(), format.dtype);
  if (one.op.op() == "log_softmax_topk") return ExpectSameTopK(actual, expected, tolerance, what);
  for (size_t i = 0; i < expected.outputs.size(); ++i) {
    ExpectClose(actual.outputs[i], expected.outputs[i], tolerance, what);
  }
  for (size_t i = 0; i < one.call.inputs.size(); ++i) {
    if (one.call.inputs[i].state) ExpectClose(actual.inputs[i], expected.inputs[i], tolerance, what + " state");
  }
}

// Whether this instruction set expands matrices of the type to f32, as f32's own products are tested already.
bool BecomesF32(DType dtype) {
  const char* problem = "";
  const cpu::IsaTable& isa = *cpu::ActiveIsa(&problem);
  return (dtype == DType::kBF16x2 && !isa.bf16_tiles) || (HasFactors(dtype) && !isa.s16_products);
}
// Of matrices that are multiplied in a way of their own.
std::vector<DType> ProductTypes() {
  std::vector<DType> types;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kBF16x2, DType::kS16, DType::kS8x2}) {
    if (!BecomesF32(dtype)) types.push_back(dtype);
  }
  return types;
}

class CpuIsa : public ::testing::TestWithParam<const char*> {};

TEST_P(CpuIsa, AgreesWithRef) {
  const ScopedIsa isa(GetParam());
  PoolStream one(1), two(2), three(3);
  Stream* const streams[] = {&one.stream, &two.stream, &three.stream};
  const WeightFormat formats[] = {{DType::kF32, Layout::kRowMajor},    {DType::kF32, Layout::kPanel16},
                                  {DType::kBF16, Layout::kRowMajor},   {DType::kBF16, Layout::kPanel16},
                                  {DType::kBF16x2, Layout::kRowMajor}, {DType::kBF16x2, Layout::kPanel16},
                                  {DType::kS16, Layout::kRowMajor},    {DType::kS16, Layout::kPanel16},
                                  {DType::kS8x2, Layout::kRowMajor},   {DType::kS8x2, Layout::kPanel16}};
  for (const CpuCase& c : AllCpuCases()) {
    int turn = 0;
    for (const WeightFormat format : formats) {
      for (int threads = 1; threads <= 3; ++threads) {
        // All thread counts in the formats that the engine uses, one in turn in the others and in those that become
        // f32.
        const bool few = format.layout == Layout::kRowMajor || BecomesF32(format.dtype);
        if (few && turn++ % 3 != threads - 1) continue;
        const std::string what =
            std::string(GetParam()) + " " + c.name + " " + FormatName(format) + " threads " + std::to_string(threads);
        ExpectLikeRef(c, format, streams[threads - 1], what);
        if (HasFailure()) return;  // one dump is enough
      }
    }
  }
}

TEST_P(CpuIsa, BitsDoNotDependOnThreads) {
  const ScopedIsa isa(GetParam());
  PoolStream one(1), two(2), three(3);
  for (const CpuCase& c : AllCpuCases()) {
    for (const DType dtype : ProductTypes()) {
      const PackedOp packed = c.op.Pack({dtype, Layout::kPanel16});
      const OpOutcome expected = RunOp(CpuKernels(), packed.desc, c.call, &one.stream);
      for (Stream* stream : {&two.stream, &three.stream}) {
        const OpOutcome actual = RunOp(CpuKernels(), packed.desc, c.call, stream);
        for (size_t i = 0; i < expected.outputs.size(); ++i) {
          ExpectSameBits(actual.outputs[i], expected.outputs[i], c.name);
        }
      }
      if (HasFailure()) return;
    }
  }
}

// Rows [first, first + count) of a tensor.
HostTensor Slice(const HostTensor& t, int64_t first, int64_t count) {
  const size_t row = t.shape.num_elements() == 0 ? 0 : t.bytes.size() / t.shape[0];
  Shape shape{count};
  for (int axis = 1; axis < t.shape.rank(); ++axis) shape.Append(t.shape[axis]);
  return {t.dtype, shape, {t.bytes.begin() + first * row, t.bytes.begin() + (first + count) * row}, t.state};
}

TEST_P(CpuIsa, BitsDoNotDependOnNeighbours) {
  const ScopedIsa isa(GetParam());
  PoolStream two(2);
  for (const auto& cases : {LinearCases(), FeedForwardCases(), AttentionCases(), ConvModuleCases(), SubsampleCases()}) {
    for (const CpuCase& c : cases) {
      if (c.call.lengths[0].size() < 2) continue;
      for (const DType dtype : ProductTypes()) {
        const PackedOp packed = c.op.Pack({dtype, Layout::kPanel16});
        const OpOutcome together = RunOp(CpuKernels(), packed.desc, c.call, &two.stream);
        int64_t first = 0, out_first = 0;
        for (const int32_t length : c.call.lengths[0]) {
          if (length == 0) continue;
          OpCall alone = c.call;
          alone.inputs[0] = Slice(c.call.inputs[0], first, length);
          alone.lengths = {{length}};
          int64_t out = length;
          if (c.op.op() == "subsample_conv2d") {
            const auto stages = SubsampleStages(packed.desc.attributes.Word("kind", "")).value();
            out = SubsampledFrames(stages, length);
          }
          alone.outputs[0].shape = {out, c.call.outputs[0].shape[1]};
          const OpOutcome single = RunOp(CpuKernels(), packed.desc, alone, &two.stream);
          ExpectSameBits(single.outputs[0], Slice(together.outputs[0], out_first, out), c.name);
          first += length, out_first += out;
        }
        if (HasFailure()) return;
      }
    }
  }
}

// Integers: every product and sum is exact, so all instruction sets and formats must agree with ref to the bit; s16
// and s8x2 round them to their own.
TEST_P(CpuIsa, IntegerProductsAreExact) {
  const ScopedIsa isa(GetParam());
  PoolStream two(2);
  Rng rng(11);
  for (const auto& [K, N] : {std::pair<int64_t, int64_t>{64, 48}, {37, 17}, {300, 100}}) {
    for (const int64_t R : {1, 14, 16, 31, 33, 61}) {
      TestOp op("linear");
      op.Matrix("linear.w", N, K, rng.SmallInts(N * K)).Vector("linear.b", rng.SmallInts(N));
      OpCall call;
      call.inputs = {HostTensor::F32({R, K}, rng.SmallInts(R * K))};
      call.lengths = {{static_cast<int32_t>(R)}};
      call.outputs = {{DType::kF32, {R, N}}};
      for (const DType dtype : ProductTypes()) {
        if (HasFactors(dtype)) continue;
        const PackedOp packed = op.Pack({dtype, Layout::kPanel16});
        ExpectSameBits(RunOp(CpuKernels(), packed.desc, call, &two.stream).outputs[0],
                       RunOp(RefKernels(), packed.desc, call).outputs[0], GetParam());
      }
    }
  }
}

// The largest sums that a run of s16 can have: each value 16383, the weights as large as their factor lets them be and
// of one sign. A sum that left 32 bits would change its sign.
TEST_P(CpuIsa, S16SumsStayIn32Bits) {
  const ScopedIsa isa(GetParam());
  PoolStream one(1);
  constexpr int64_t K = 64, N = 33, R = 15;
  for (const float sign : {1.0F, -1.0F}) {
    std::vector<float> w(N * K), x(R * K, 16383.0F);
    for (int64_t i = 0; i < N * K; ++i) w[i] = i % K < 32 ? 4095.5F * sign : static_cast<float>(i / K);
    TestOp op("linear");
    op.Matrix("linear.w", N, K, w);
    OpCall call;
    call.inputs = {HostTensor::F32({R, K}, x)};
    call.lengths = {{static_cast<int32_t>(R)}};
    call.outputs = {{DType::kF32, {R, N}}};
    const PackedOp packed = op.Pack({DType::kS16, Layout::kPanel16});
    const HostTensor sums = RunOp(CpuKernels(), packed.desc, call, &one.stream).outputs[0];
    const HostTensor expected = RunOp(RefKernels(), packed.desc, call).outputs[0];
    ExpectClose(sums, expected, {0, 5e-5F}, GetParam());  // AMX leaves low by low out
    EXPECT_GT(expected.floats()[0] * sign, 2.1e9F);
  }
}

// The same of a block of s8x2, all of its products as large as they can be: 256 * 127 + 127 has the largest terms.
TEST_P(CpuIsa, S8x2SumsStayIn32Bits) {
  const ScopedIsa isa(GetParam());
  PoolStream one(1);
  constexpr int64_t K = 320, N = 33, R = 17;
  for (const float sign : {1.0F, -1.0F}) {
    TestOp op("linear");
    op.Matrix("linear.w", N, K, std::vector<float>(N * K, 32639.0F * sign));
    OpCall call;
    call.inputs = {HostTensor::F32({R, K}, std::vector<float>(R * K, 32639.0F))};
    call.lengths = {{static_cast<int32_t>(R)}};
    call.outputs = {{DType::kF32, {R, N}}};
    const PackedOp packed = op.Pack({DType::kS8x2, Layout::kPanel16});
    const HostTensor sums = RunOp(CpuKernels(), packed.desc, call, &one.stream).outputs[0];
    for (const float sum : sums.floats()) EXPECT_NEAR(sum * sign / (320.0 * 32639 * 32639), 1, 5e-4);
  }
}

// Activations against libm in double: relative error, over the range that matters and far outside it.
TEST_P(CpuIsa, ActivationsAreAccurate) {
  const ScopedIsa isa(GetParam());
  const char* problem = "";
  const cpu::IsaTable& table = *cpu::ActiveIsa(&problem);
  std::vector<float> x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(static_cast<float>(i) * 0.01F);  // 40: sigmoid is 1 in f32
  std::vector<float> swish = x, gelu = x, relu = x;
  table.activate(cpu::Epilogue::kSwish, static_cast<int64_t>(x.size()), swish.data());
  table.activate(cpu::Epilogue::kGelu, static_cast<int64_t>(x.size()), gelu.data());
  table.activate(cpu::Epilogue::kRelu, static_cast<int64_t>(x.size()), relu.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i], expected = v / (1.0 + std::exp(-v));
    EXPECT_NEAR(swish[i], expected, 4e-7 * std::abs(expected)) << "swish " << v;
    EXPECT_NEAR(gelu[i], 0.5 * v * (1.0 + std::erf(v * std::sqrt(0.5))), 1e-6 * std::abs(v)) << "gelu " << v;
    EXPECT_EQ(relu[i], std::max(x[i], 0.0F));
  }
  std::vector<float> extremes = {-1e4F, -90.0F, 90.0F, 1e4F, 1e16F, 3e38F, -3e30F, std::nanf("")};
  table.activate(cpu::Epilogue::kSwish, static_cast<int64_t>(extremes.size()), extremes.data());
  for (const int i : {0, 1}) EXPECT_NEAR(extremes[i], 0, 1e-30F);
  EXPECT_FLOAT_EQ(extremes[2], 90.0F);
  EXPECT_FLOAT_EQ(extremes[3], 1e4F);
  EXPECT_FLOAT_EQ(extremes[4], 1e16F);
  EXPECT_FLOAT_EQ(extremes[5], 3e38F);
  EXPECT_NEAR(extremes[6], 0, 1e-6F);
  EXPECT_TRUE(std::isnan(extremes[7]));
}

INSTANTIATE_TEST_SUITE_P(All, CpuIsa, ::testing::ValuesIn(IsaNames()),
                         [](const auto& info) { return std::string(info.param); });

TEST(CpuKernelsTest, AnImpossibleIsaIsRefusedWithTheReason) {
  const ScopedIsa isa("mmx");
  TestOp op("linear");
  Rng rng(1);
  op.RandomLinear(rng, "linear", 4, 4);
  const PackedOp packed = op.Pack();
  for (const KernelEntry& entry : CpuKernels()) {
    if (packed.desc.op != entry.op) continue;
    const auto reason = entry.refuse(packed.desc);
    ASSERT_TRUE(reason.has_value());
    EXPECT_NE(reason->find("TING_CPU_ISA"), std::string::npos);
    EXPECT_FALSE(entry.create(packed.desc).ok());
  }
}

TEST(CpuKernelsTest, Bf16WithoutBf16ProductsGoesToTheExpandedEntry) {
  const ScopedIsa isa("baseline");
  TestOp op("linear");
  Rng rng(1);
  op.RandomLinear(rng, "linear", 4, 4);
  const PackedOp packed = op.Pack({DType::kBF16, Layout::kPanel16});
  const auto entries = EntriesFor(CpuKernels(), packed.desc);
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_STREQ(entries[0]->name, "cpu.baseline.expanded");
}

// Equal log-probabilities: the lower id first, across vector, block and list boundaries.
TEST(CpuKernelsTest, TopKPutsTheLowerIdFirst) {
  for (const char* name : IsaNames()) {
    const ScopedIsa isa(name);
    PoolStream one(1), two(2);
    const int64_t V = 1200, D = 4, R = 3, k = 20;
    TestOp op("log_softmax_topk");
    op.Matrix("head.w", V, D, std::vector<float>(V * D, 0.25F)).Vector("head.b", std::vector<float>(V, 0.0F));
    OpCall call;
    call.inputs = {HostTensor::F32({R, D}, std::vector<float>(R * D, 1.0F))};
    call.lengths = {{static_cast<int32_t>(R)}};
    call.outputs = {{DType::kF32, {R, k}}, {DType::kS32, {R, k}}};
    const PackedOp packed = op.Pack({DType::kF32, Layout::kPanel16});
    for (Stream* stream : {&one.stream, &two.stream}) {
      const OpOutcome outcome = RunOp(CpuKernels(), packed.desc, call, stream);
      for (int64_t i = 0; i < R * k; ++i) {
        EXPECT_EQ(outcome.outputs[1].ints()[i], i % k);
        EXPECT_NEAR(outcome.outputs[0].floats()[i], -std::log(1200.0F), 1e-5F);
      }
    }
  }
}

TEST(CpuKernelsTest, RefusesTokensTargetsAndSlotsOutOfRange) {
  PoolStream one(1);
  Rng rng(3);
  TestOp embed("embed");
  embed.Table("table", 5, 4, rng.Floats(20));
  OpCall call;
  call.inputs = {HostTensor::S32(std::vector<int32_t>{5}), HostTensor::S32(std::vector<int32_t>{0})};
  call.outputs = {{DType::kF32, {1, 4}}};
  const PackedOp packed = embed.Pack();
  const OpOutcome outcome = RunEntry(*EntriesFor(CpuKernels(), packed.desc)[0], packed.desc, call, &one.stream);
  EXPECT_EQ(outcome.status.code(), StatusCode::kInvalidArgument);

  for (CpuCase c : TreeAttentionCases()) {
    c.call.inputs[1] = HostTensor::S32(std::vector<int32_t>(c.call.inputs[0].shape[0], 1000));
    const PackedOp tree = c.op.Pack();
    EXPECT_EQ(RunEntry(*EntriesFor(CpuKernels(), tree.desc)[0], tree.desc, c.call, &one.stream).status.code(),
              StatusCode::kInvalidArgument);
  }
}

TEST(CpuKernelsTest, SaysWhichInputHasNoSequences) {
  PoolStream one(1);
  for (auto cases : {AttentionCases(), ConvModuleCases(), SubsampleCases(), CrossAttentionCases()}) {
    CpuCase& c = cases[0];
    c.call.lengths.clear();
    const PackedOp packed = c.op.Pack();
    const OpOutcome outcome = RunEntry(*EntriesFor(CpuKernels(), packed.desc)[0], packed.desc, c.call, &one.stream);
    EXPECT_EQ(outcome.status.code(), StatusCode::kInvalidArgument) << c.name;
    EXPECT_NE(outcome.status.message().find("row set"), std::string::npos);
  }
}

// Inputs, outputs and vectors need no alignment beyond that of a float.
TEST(CpuKernelsTest, TakesMisalignedRows) {
  for (const char* name : IsaNames()) {
    const ScopedIsa isa(name);
    PoolStream two(2);
    for (const CpuCase& c : FeedForwardCases()) {
      const int64_t count = c.call.inputs[0].shape.num_elements();
      if (count == 0) continue;
      const PackedOp packed = c.op.Pack({DType::kF32, Layout::kPanel16});
      const OpOutcome expected = RunOp(CpuKernels(), packed.desc, c.call, &two.stream);
      auto kernel = EntriesFor(CpuKernels(), packed.desc)[0]->create(packed.desc).value();
      std::vector<float> x(count + 1), y(count + 1);
      std::memcpy(x.data() + 1, c.call.inputs[0].bytes.data(), count * sizeof(float));
      const std::vector<TensorView> inputs = {{x.data() + 1, DType::kF32, c.call.inputs[0].shape}};
      const std::vector<TensorView> outputs = {{y.data() + 1, DType::kF32, c.call.inputs[0].shape}};
      const RowSet rows = RowSet::FromLengths(c.call.lengths[0]);
      const std::vector<const RowSet*> row_sets = {&rows};
      const StepOptions options;
      KernelContext context{inputs, outputs, row_sets, &options, nullptr, &two.stream};
      AlignedBuffer workspace = AlignedBuffer::Allocate(kernel->WorkspaceBytes(context)).value();
      context.workspace = workspace.data();
      ASSERT_TRUE(kernel->Run(context).ok());
      EXPECT_EQ(std::memcmp(y.data() + 1, expected.outputs[0].bytes.data(), count * sizeof(float)), 0) << c.name;
    }
  }
}

}  // namespace
}  // namespace ting::testing
