// tests/kernels/backend_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Every implementation of every backend on every case of kernel_cases.h: close to ref, the same bits in any batch.
// A backend joins by one line in Backends(). For ref itself the first test says only that a run writes all of its
// output and nothing else; that its numbers are right is golden_test.cc's matter.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/ref/ref_kernels.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/kernel_testing.h"

namespace ting::testing {
namespace {

struct Backend {
  std::string name;
  std::span<const KernelEntry> entries;
  Stream* stream = nullptr;
  friend void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }  // for gtest's messages
};

std::vector<Backend> Backends() {
  static ThreadPool pool(2);
  static CpuStream cpu(pool);
  return {{"ref", RefKernels(), nullptr}, {"cpu", CpuKernels(), &cpu}};
}

constexpr WeightFormat kFormats[] = {{DType::kF32, Layout::kRowMajor},   {DType::kF32, Layout::kPanel16},
                                     {DType::kBF16, Layout::kRowMajor},  {DType::kBF16, Layout::kPanel16},
                                     {DType::kBF16x2, Layout::kPanel16}, {DType::kS16, Layout::kPanel16},
                                     {DType::kS8x2, Layout::kPanel16}};

// Ids of top-k may differ from ref's where products differ in rounding: each must have, by ref's full log-softmax, the
// log-probability that is claimed for it, and none may come twice.
void ExpectPlausibleIds(const OpDesc& desc, const KernelCase& topk, const OpOutcome& outcome, Tolerance tolerance) {
  OpDesc full = desc;
  full.op = "log_softmax";
  OpCall call = topk.call;
  const int64_t rows = call.inputs[0].shape[0], V = full.weights.at("head.w").shape[0], k = call.outputs[0].shape[1];
  call.outputs = {{DType::kF32, {rows, V}}};
  const HostTensor logp = RunOp(RefKernels(), full, call).outputs[0];
  for (int64_t r = 0; r < rows; ++r) {
    std::set<int32_t> seen;
    for (int64_t i = 0; i < k; ++i) {
      const int32_t id = outcome.outputs[1].ints()[r * k + i];
      ASSERT_TRUE(id >= 0 && id < V) << topk.name << ": id " << id;
      EXPECT_TRUE(seen.insert(id).second) << topk.name << ": id " << id << " twice in row " << r;
      const float expected = logp.floats()[r * V + id];
      EXPECT_NEAR(outcome.outputs[0].floats()[r * k + i], expected,
                  tolerance.absolute + tolerance.relative * std::max(1.0F, std::abs(expected)) * 4);
    }
  }
}

void ExpectOutcome(const OpDesc& desc, const KernelCase& test, const OpOutcome& actual, const OpOutcome& expected,
                   Tolerance tolerance, const std::string& what) {
  ExpectClose(actual.outputs[0], expected.outputs[0], tolerance, what);
  if (test.op.op() == "log_softmax_topk") ExpectPlausibleIds(desc, test, actual, tolerance);
  for (size_t i = 0; i < test.call.inputs.size(); ++i) {
    if (test.call.inputs[i].state) ExpectClose(actual.inputs[i], expected.inputs[i], tolerance, what + " state");
  }
}

class BackendTest : public ::testing::TestWithParam<std::tuple<Backend, std::string>> {
 protected:
  const Backend& backend() const { return std::get<0>(GetParam()); }
  std::vector<KernelCase> Cases() const { return CasesOf(std::get<1>(GetParam())); }
  // Calls check(entry, desc, case, text) for every case, weight format and implementation that takes it.
  template <typename Check>
  int ForEach(Check&& check) const {
    int runs = 0;
    for (const KernelCase& test : Cases()) {
      for (const WeightFormat& format : kFormats) {
        const PackedOp packed = test.op.Pack(format);
        for (const KernelEntry* entry : EntriesFor(backend().entries, packed.desc)) {
          check(*entry, packed.desc, test, std::string(entry->name) + ": " + test.name + " " + FormatName(format));
          ++runs;
          if (::testing::Test::HasFatalFailure()) return runs;
        }
      }
    }
    return runs;
  }
};

bool HasOp(std::span<const KernelEntry> entries, const std::string& op) {
  return std::any_of(entries.begin(), entries.end(), [&](const KernelEntry& entry) { return op == entry.op; });
}

TEST_P(BackendTest, AgreesWithRef) {
  if (!HasOp(backend().entries, std::get<1>(GetParam()))) GTEST_SKIP() << "the backend leaves this op to another";
  const int runs =
      ForEach([&](const KernelEntry& entry, const OpDesc& desc, const KernelCase& test, const std::string& what) {
        const OpOutcome actual = RunEntry(entry, desc, test.call, backend().stream);
        ASSERT_TRUE(actual.status.ok()) << what << ": " << actual.status.ToString();
        const OpOutcome expected = RunOp(RefKernels(), desc, test.call);
        DType weights = DType::kF32;
        for (const auto& [slot, view] : desc.weights) weights = view.dtype == DType::kF32 ? weights : view.dtype;
        const Tolerance tolerance = ToleranceOf(test.op.op(), weights);
        ExpectOutcome(desc, test, actual, expected, tolerance, what);
      });
  EXPECT_GT(runs, 0) << "every implementation refused every case";
}

TEST_P(BackendTest, RowsDoNotDependOnTheBatch) {
  if (!HasOp(backend().entries, std::get<1>(GetParam()))) GTEST_SKIP() << "the backend leaves this op to another";
  ForEach([&](const KernelEntry& entry, const OpDesc& desc, const KernelCase& test, const std::string& what) {
    const OpOutcome whole = RunEntry(entry, desc, test.call, backend().stream);
    ASSERT_TRUE(whole.status.ok()) << what << ": " << whole.status.ToString();
    std::vector<HostTensor> joined = whole.outputs;
    for (HostTensor& tensor : joined) tensor.bytes.clear();
    std::vector<HostTensor> inputs = test.call.inputs;
    for (OpCall part : SplitCall(test)) {
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (inputs[i].state) part.inputs[i].bytes = inputs[i].bytes;
      }
      const OpOutcome outcome = RunEntry(entry, desc, part, backend().stream);
      ASSERT_TRUE(outcome.status.ok()) << what << ": " << outcome.status.ToString();
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (inputs[i].state) inputs[i].bytes = outcome.inputs[i].bytes;
      }
      for (size_t i = 0; i < joined.size(); ++i) {
        joined[i].bytes.insert(joined[i].bytes.end(), outcome.outputs[i].bytes.begin(), outcome.outputs[i].bytes.end());
      }
    }
    for (size_t i = 0; i < joined.size(); ++i) ExpectSameBits(joined[i], whole.outputs[i], what);
  });
}

std::string ParamName(const ::testing::TestParamInfo<std::tuple<Backend, std::string>>& info) {
  return std::get<0>(info.param).name + "_" + std::get<1>(info.param);
}

INSTANTIATE_TEST_SUITE_P(Ops, BackendTest,
                         ::testing::Combine(::testing::ValuesIn(Backends()), ::testing::ValuesIn(AllOps())), ParamName);

}  // namespace

}  // namespace ting::testing
