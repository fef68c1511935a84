// tests/kernels/golden_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The first link of the chain of trust: ref against float64 results that scripts/make_kernel_goldens.py derives from
// WeNet's definitions with numpy. ref then proves the other backends (backend_test.cc).
#include <gtest/gtest.h>

#include <map>

#include "kernels/ref/ref_kernels.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/support/npz.h"
#include "tests/support/paths.h"

namespace ting::testing {
namespace {

using CaseArrays = std::map<std::string, const NpyArray*>;  // by what follows "CASE/"

struct GoldenCase {
  std::string name;
  TestOp op;
  OpCall call;
  std::vector<HostTensor> outputs;
  std::map<int, HostTensor> states;
};

Shape ShapeOf(const NpyArray& array) {
  Shape shape;
  for (const int64_t dim : array.shape) shape.Append(dim);
  return shape;
}

HostTensor TensorOf(const NpyArray& array) {
  if (array.dtype == "<i4") return HostTensor::S32(array.As<int32_t>());
  return HostTensor::F32(ShapeOf(array), array.As<float>());
}

// s32 outputs may have two axes (ids of top-k).
HostTensor OutputOf(const NpyArray& array) {
  HostTensor tensor = TensorOf(array);
  tensor.shape = ShapeOf(array);
  return tensor;
}

void SetAttribute(TestOp& op, const std::string& name, const NpyArray& value) {
  if (value.dtype[1] == 'U') {
    op.Set(name, value.AsStrings()[0]);
  } else if (value.dtype == "<i8") {
    op.Set(name, value.As<int64_t>()[0]);
  } else {
    op.Set(name, value.As<double>()[0]);
  }
}

void AddWeight(TestOp& op, const std::string& slot, const NpyArray& value) {
  auto values = value.As<float>();
  if (value.shape.size() == 1) {
    op.Vector(slot, std::move(values));
  } else if (slot == "dw.w") {
    op.PlainMatrix(slot, value.shape[0], value.shape[1], std::move(values));
  } else if (slot == "table") {
    op.Table(slot, value.shape[0], value.shape[1], std::move(values));
  } else {
    op.Matrix(slot, value.shape[0], value.shape[1], std::move(values));
  }
}

GoldenCase MakeCase(const std::string& name, const CaseArrays& arrays) {
  GoldenCase golden{name, TestOp(arrays.at("op")->AsStrings()[0], name), {}, {}, {}};
  for (const auto& [key, array] : arrays) {
    const size_t dot = key.find('.');
    const std::string kind = key.substr(0, dot), rest = dot == std::string::npos ? "" : key.substr(dot + 1);
    if (kind == "attr") SetAttribute(golden.op, rest, *array);
    if (kind == "weight") AddWeight(golden.op, rest, *array);
    if (kind == "input") golden.call.inputs.push_back(TensorOf(*array));  // the map is sorted: 0, 1, …
    if (kind == "output") golden.outputs.push_back(OutputOf(*array));
    if (kind == "state") golden.states[std::stoi(rest)] = TensorOf(*array);
    if (kind == "lengths") {
      golden.call.lengths.resize(std::stoi(rest) + 1);
      golden.call.lengths[std::stoi(rest)] = array->As<int32_t>();
    }
  }
  const auto options = arrays.at("options")->As<float>();
  golden.call.options = {static_cast<int>(options[0]), static_cast<int>(options[1]), options[2]};
  for (const HostTensor& output : golden.outputs) golden.call.outputs.push_back({output.dtype, output.shape});
  for (const auto& [input, state] : golden.states) golden.call.inputs[input].state = true;
  return golden;
}

std::vector<GoldenCase> LoadCases(const std::string& file) {
  const Npz npz = Npz::Load(SourcePath("tests/golden/kernels/" + file + ".npz"));
  std::map<std::string, CaseArrays> by_case;
  for (const auto& [name, array] : npz.arrays()) {
    const size_t slash = name.find('/');
    by_case[name.substr(0, slash)][name.substr(slash + 1)] = &array;
  }
  std::vector<GoldenCase> cases;
  for (const auto& [name, arrays] : by_case) cases.push_back(MakeCase(name, arrays));
  return cases;
}

class RefGoldenTest : public ::testing::TestWithParam<const char*> {};

// ref rounds to f32 at most five times between input and output (norm, product, activation, product, residual), each
// 2^-24 of values at most a few times the output's scale: 1e-6 of it.
TEST_P(RefGoldenTest, EqualsFloat64) {
  const auto cases = LoadCases(GetParam());
  ASSERT_GE(cases.size(), 4u);
  for (const GoldenCase& golden : cases) {
    for (const Layout layout : {Layout::kRowMajor, Layout::kPanel16}) {
      const PackedOp packed = golden.op.Pack({DType::kF32, layout});
      const OpOutcome outcome = RunOp(RefKernels(), packed.desc, golden.call);
      for (size_t i = 0; i < golden.outputs.size(); ++i) {
        ExpectClose(outcome.outputs[i], golden.outputs[i], {1e-7F, 1e-6F}, golden.name);
      }
      for (const auto& [input, state] : golden.states) {
        ExpectClose(outcome.inputs[input], state, {1e-7F, 1e-6F}, golden.name + " state");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, RefGoldenTest,
                         ::testing::Values("elementwise", "linear", "attention", "conv_module", "subsample_conv2d",
                                           "output_head"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace ting::testing
