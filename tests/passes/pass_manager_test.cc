// tests/passes/pass_manager_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Passes by their text before and after, and by their results: random graphs give the same output with every pass
// off in turn as with all of them on, on the reference backend.
#include "passes/pass_manager.h"

#include <gtest/gtest.h>

#include "graph/parser.h"
#include "graph/printer.h"
#include "graph/verifier.h"
#include "passes/precision/pack_weights.h"
#include "runtime/executor.h"
#include "tests/support/random_graph.h"

namespace ting {
namespace {

std::vector<float> RunRef(const Module& module, const std::vector<float>& x, int64_t width,
                          std::vector<int32_t> lengths) {
  ThreadPool pool(1);
  auto device = CreateCpuDevice("ref", pool);
  EXPECT_TRUE(device.ok());
  auto executor = Executor::Create(module.graphs.at("random"), module.weights, **device);
  EXPECT_TRUE(executor.ok()) << executor.status().ToString() << PrintGraph(module.graphs.at("random"));
  if (!executor.ok()) return {};
  const RowSet rows = RowSet::FromLengths(lengths);
  const StepInput input{{const_cast<float*>(x.data()), DType::kF32, {rows.num_rows(), width}}, &rows};
  std::vector<StepOutput> outputs;
  const auto stream = std::move((*device)->CreateStream()).value();
  const Status status = (*executor)->Run({&input, 1}, {}, {}, *stream, &outputs);
  EXPECT_TRUE(status.ok()) << status.ToString();
  if (!status.ok()) return {};
  const float* y = outputs[0].tensor.as<float>();
  return std::vector<float>(y, y + outputs[0].tensor.num_elements());
}

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size() || a.empty()) return 1e30;
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return largest == 0 ? 1e30 : worst / std::max(1.0, largest);
}

TEST(PassManagerTest, RandomGraphsKeepTheirOutputWithEachPassOffInTurn) {
  std::vector<std::set<std::string>> variants{{}};
  for (const Pass& pass : OptimizePasses()) variants.push_back({pass.name});
  for (uint32_t seed = 0; seed < 60; ++seed) {
    testing::RandomGraph random(seed);
    const Module original = random.Make();
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    const std::vector<int32_t> lengths{3, 1, 7};
    std::vector<float> x(11 * random.width());
    for (float& value : x) value = normal(engine);
    const std::vector<float> expected = RunRef(original, x, random.width(), lengths);
    for (const auto& disabled : variants) {
      Module module = original;
      ASSERT_TRUE(Optimize(module, {disabled}, nullptr).ok()) << "seed " << seed;
      ASSERT_TRUE(VerifyModule(module).ok());
      // Weights are folded in f64 and rounded once: a handful of eps, amplified by at most six blocks.
      EXPECT_LT(MaxDifference(RunRef(module, x, random.width(), lengths), expected), 2e-4)
          << "seed " << seed << " without " << (disabled.empty() ? "nothing" : *disabled.begin())
          << PrintGraph(original.graphs.at("random")) << PrintGraph(module.graphs.at("random"));
      ASSERT_TRUE(PackWeights(module, Precision::kF32).ok());
      EXPECT_LT(MaxDifference(RunRef(module, x, random.width(), lengths), expected), 2e-4) << "packed, seed " << seed;
    }
  }
}

TEST(PassManagerTest, FusesAConformerHalfStepIntoOneNode) {
  const auto graph = ParseGraph(
      "graph g(%x: f32[R, 4]) -> (%out) {\n"
      "  %n: f32[R, 4] = layer_norm(%x) {norm_eps = 1e-05} [norm.gamma = gamma, norm.beta = beta]\n"
      "  %ffn: f32[R, 4] = feed_forward(%n) {activation = \"swish\"} [w1.w, w2.w]\n"
      "  %sum: f32[R, 4] = add(%x, %ffn) {scale = 0.5}\n"
      "  %out: f32[R, 4] = layer_norm(%sum) {norm_eps = 1e-05} [norm.gamma = gamma, norm.beta = beta]\n"
      "}\n");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  Module module;
  module.graphs["g"] = *graph;
  for (const char* name : {"gamma", "beta"}) {
    ASSERT_TRUE(module.weights.PutF32(name, {4}, std::vector<float>(4, 1.0F)).ok());
  }
  ASSERT_TRUE(module.weights.PutF32("g.ffn.w1.w", {6, 4}, std::vector<float>(24, 1.0F)).ok());
  ASSERT_TRUE(module.weights.PutF32("g.ffn.w2.w", {4, 6}, std::vector<float>(24, 1.0F)).ok());
  ASSERT_TRUE(module.weights.PutF32("unused", {1}, std::vector<float>(1, 1.0F)).ok());
  std::vector<PassTime> times;
  ASSERT_TRUE(Optimize(module, {}, &times).ok());
  EXPECT_EQ(times.size(), OptimizePasses().size());
  EXPECT_EQ(module.weights.Find("unused"), nullptr);
  EXPECT_EQ(PrintGraph(module.graphs["g"]),
            "graph g(%x: f32[R, 4]) -> (%out) {\n"
            "  %out: f32[R, 4] = feed_forward(%x) {activation = \"swish\", norm_eps = 1e-05, residual = 0.5} "
            "[norm.beta = beta, norm.gamma = gamma, post.beta = beta, post.gamma = gamma, "
            "w1.w = g.ffn.w1.w, w2.w = g.ffn.w2.w]\n"
            "}\n");
}

TEST(PassManagerTest, RefusesAnUnknownName) {
  Module module;
  const Status status = Optimize(module, {{"fold_everything"}}, nullptr);
  EXPECT_NE(status.message().find("no pass named fold_everything"), std::string::npos);
}

}  // namespace
}  // namespace ting
