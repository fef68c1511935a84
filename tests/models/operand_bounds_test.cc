// tests/models/operand_bounds_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Bounds of operands: worked by hand and reached; held by random graphs whatever is fed to them; and those of a model.
#include "models/u2/operand_bounds.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "graph/parser.h"
#include "models/u2/u2_model.h"
#include "passes/pass_manager.h"
#include "runtime/executor.h"
#include "tests/support/paths.h"
#include "tests/support/random_graph.h"

namespace ting {
namespace {

constexpr double kRounding = 1e-5;  // of f32 kernels against bounds in double
constexpr double kLarge = 65504.0 / 2;

// %x f32[R, D] and one node.
Result<GraphBounds> BoundOf(const std::string& node, const WeightStore& weights, int D, double most) {
  const auto graph = ParseGraph("graph g(%x: f32[R, " + std::to_string(D) + "]) -> (%y) {\n  " + node + "\n}");
  if (!graph.ok()) return graph.status();
  return BoundGraph(*graph, weights, {{"x", most}});
}

TEST(OperandBounds, ALinearIsBoundedByItsWeightsAndInputs) {
  WeightStore weights;
  ASSERT_TRUE(weights.PutF32("w", {2, 3}, std::vector<float>{1, -2, 3, 0, 0.5F, 0}).ok());
  ASSERT_TRUE(weights.PutF32("b", {2}, std::vector<float>{-4, 1}).ok());
  const auto bounds = BoundOf("%y: f32[R, 2] = linear(%x) [linear.b = b, linear.w = w]", weights, 3, 10);
  ASSERT_TRUE(bounds.ok()) << bounds.status().ToString();
  EXPECT_EQ(bounds->outputs, std::vector<double>{64});  // 6 * 10 + 4
  EXPECT_EQ(bounds->operand.most, 64);                  // the memory that attention reads
  EXPECT_EQ(bounds->operand.place, "g.y");
}

TEST(OperandBounds, ANormalisedRowReachesItsBound) {
  const int D = 4;
  WeightStore weights;
  const std::vector<float> gamma{1, 2, -1, 0.5F}, beta{0.5F, 0, 0, -1}, w1{3, -1, 2, 4};
  ASSERT_TRUE(weights.PutF32("gamma", {D}, gamma).ok() && weights.PutF32("beta", {D}, beta).ok());
  ASSERT_TRUE(weights.PutF32("w1", {1, D}, w1).ok() && weights.PutF32("w2", {D, 1}, std::vector<float>(D, 0)).ok());
  const auto bounds = BoundOf(
      "%y: f32[R, 4] = feed_forward(%x) {activation = \"relu\", residual = 1.0} "
      "[norm.beta = beta, norm.gamma = gamma, w1.w = w1, w2.w = w2]",
      weights, D, 1e30);
  ASSERT_TRUE(bounds.ok()) << bounds.status().ToString();
  // The row along w1 gamma, of length sqrt(D), gives the hidden unit its largest value.
  double squares = 0, offset = 0;
  for (int d = 0; d < D; ++d) squares += std::pow(w1[d] * gamma[d], 2), offset += w1[d] * beta[d];
  double reached = offset;
  for (int d = 0; d < D; ++d) {
    const double z = w1[d] * gamma[d] * std::sqrt(D / squares);
    reached += w1[d] * gamma[d] * z;
  }
  EXPECT_NEAR(bounds->operand.most, std::abs(reached - offset) + std::abs(offset), 1e-12);
  EXPECT_GE(bounds->outputs[0], 1e30);  // the residual sum is no operand
}

TEST(OperandBounds, WhatIsNotFiniteIsBoundedByNothing) {
  WeightStore weights;
  ASSERT_TRUE(weights.PutF32("w", {1, 2}, std::vector<float>{NAN, 1}).ok());
  const auto bounds = BoundOf("%y: f32[R, 1] = linear(%x) [linear.w = w]", weights, 2, 1);
  ASSERT_TRUE(bounds.ok());
  EXPECT_EQ(bounds->operand.most, INFINITY);
  EXPECT_FALSE(BoundOf("%y: f32[R, 1] = linear(%x) [linear.w = none]", weights, 2, 1).ok());
}

double LargestOutput(const Module& module, double most, std::mt19937& random, int64_t width) {
  ThreadPool pool(1);
  auto device = std::move(CreateCpuDevice("ref", pool)).value();
  auto executor = std::move(Executor::Create(module.graphs.at("random"), module.weights, *device)).value();
  const std::vector<int32_t> lengths{3, 1, 7};
  const RowSet rows = RowSet::FromLengths(lengths);
  std::vector<float> x(rows.num_rows() * width);
  for (float& value : x) value = static_cast<float>(random() % 2 == 0 ? most : -most);
  const StepInput input{{x.data(), DType::kF32, {rows.num_rows(), width}}, &rows};
  std::vector<StepOutput> outputs;
  const auto stream = std::move(device->CreateStream()).value();
  EXPECT_TRUE(executor->Run({&input, 1}, {}, {}, *stream, &outputs).ok());
  double largest = 0;
  const TensorView& y = outputs[0].tensor;
  for (int64_t i = 0; i < y.num_elements(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(y.as<float>()[i])));
  return largest;
}

TEST(OperandBounds, RandomGraphsStayWithin) {
  double tightest = INFINITY;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    testing::RandomGraph graph(seed);
    Module module = graph.Make();
    const bool optimised = seed % 2 == 0;
    if (optimised) {
      ASSERT_TRUE(Optimize(module).ok());
    }
    std::mt19937 random(seed);
    for (const double most : {0.01, 3.0, 1000.0}) {
      const auto bounds = BoundGraph(module.graphs.at("random"), module.weights, {{"x", most}});
      ASSERT_TRUE(bounds.ok()) << bounds.status().ToString();
      const double largest = LargestOutput(module, most, random, graph.width());
      EXPECT_LE(largest, bounds->outputs[0] * (1 + kRounding)) << "seed " << seed;
      if (largest > 0) tightest = std::min(tightest, bounds->outputs[0] / largest);
    }
  }
  EXPECT_LT(tightest, 3);  // and say something
}

// Every op of every graph is looked at: one matrix of large weights is found.
TEST(OperandBounds, AModelIsBoundedByItsLargestPlace) {
  auto model = LoadU2Model(testing::SourcePath("models/tiny"), Precision::kF32);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  const auto bound = BoundOperands(model->module);
  ASSERT_TRUE(bound.ok()) << bound.status().ToString();
  EXPECT_EQ(bound->place, "encoder.subsample");
  EXPECT_GT(bound->most, 1000);
  EXPECT_LT(bound->most, kLarge);
  std::set<std::string> seen;
  for (const auto& [name, graph] : model->module.graphs) {
    for (const Node& node : graph.nodes) {
      if (!seen.insert(name + "." + node.op).second) continue;
      const std::string& weight = std::prev(node.weights.end())->second;  // a matrix
      const Weight old = *model->module.weights.Find(weight);
      const std::vector<float> large(old.view.shape.num_elements(), 1e6F);
      ASSERT_TRUE(model->module.weights.PutF32(weight, old.view.shape, large).ok());
      const auto now = BoundOperands(model->module);
      ASSERT_TRUE(now.ok()) << now.status().ToString();
      EXPECT_GT(now->most, kLarge) << name << " " << graph.NodeName(node) << " " << weight;
      model->module.weights.Put(weight, old);
    }
  }
}

}  // namespace
}  // namespace ting
