// tests/graph/verifier_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/verifier.h"

#include <gtest/gtest.h>

#include "graph/parser.h"
#include "tests/support/random_graph.h"

namespace ting {
namespace {

WeightStore SomeWeights() {
  WeightStore weights;
  EXPECT_TRUE(weights.PutF32("g.y.norm.gamma", {4}, std::vector<float>(4, 1.0F)).ok());
  EXPECT_TRUE(weights.PutF32("g.y.norm.beta", {4}, std::vector<float>(4, 0.0F)).ok());
  EXPECT_TRUE(weights.PutF32("matrix", {6, 4}, std::vector<float>(24, 1.0F)).ok());
  return weights;
}

std::string Verdict(const std::string& text) {
  const auto graph = ParseGraph(text);
  if (!graph.ok()) return "unparsed: " + graph.status().ToString();
  return VerifyGraph(*graph, SomeWeights()).ToString();
}

TEST(VerifierTest, AcceptsAGoodGraph) {
  EXPECT_EQ(Verdict("graph g(%x: f32[R, 4]) -> (%y, %z) {\n"
                    "  %y: f32[R, 4] = layer_norm(%x) {norm_eps = 1e-05} [norm.gamma, norm.beta]\n"
                    "  %z: f32[R, 6] = linear(%y) [linear.w = matrix]\n}\n"),
            "ok");
}

TEST(VerifierTest, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"  %y: f32[R, 4] = layer_nrom(%x) [norm.gamma, norm.beta]\n", "there is no op named layer_nrom"},
      {"  %y: f32[R, 4] = layer_norm(%x, %x) [norm.gamma, norm.beta]\n", "takes 1 inputs, not 2"},
      {"  %y: f32[R, 4] = layer_norm(%t) [norm.gamma, norm.beta]\n", "input 0 is %t: s32[R]"},
      {"  %y: f32[R, 4] = layer_norm(%x) {eps = 1.0} [norm.gamma, norm.beta]\n", "has no attribute eps"},
      {"  %y: f32[R, 4] = layer_norm(%x) {norm_eps = \"small\"} [norm.gamma, norm.beta]\n", "wrong kind"},
      {"  %y: f32[R, 4] = layer_norm(%x) [norm.gamma]\n", "weight slot norm.beta of layer_norm is empty"},
      {"  %y: f32[R, 4] = layer_norm(%x) [norm.gamma, norm.beta, w1.w = matrix]\n", "has no weight slot w1.w"},
      {"  %y: f32[R, 4] = layer_norm(%x) [norm.gamma, norm.beta = nowhere]\n",
       "weight nowhere (slot norm.beta) does not exist"},
      {"  %y: f32[R, 5] = layer_norm(%x) [norm.gamma, norm.beta]\n", "is declared f32[R, 5] but is f32[R, 4]"},
      {"  %y: f32[S, 6] = linear(%x) [linear.w = matrix]\n", "is declared f32[S, 6] but is f32[R, 6]"},
  };
  for (const auto& [node, expected] : cases) {
    const std::string verdict = Verdict(std::string("graph g(%x: f32[R, 4], %t: s32[R]) -> (%y) {\n") + node + "}\n");
    EXPECT_NE(verdict.find(expected), std::string::npos) << node << verdict;
  }
}

TEST(VerifierTest, FindsBrokenIdsThatTextCannotSay) {
  Graph graph;
  graph.name = "g";
  const ValueId x = graph.AddInput("x", {DType::kF32, {Dim::Symbol("R"), Dim::Fixed(4)}});
  graph.outputs = {7};
  EXPECT_FALSE(VerifyGraph(graph, {}).ok());
  graph.outputs = {x};
  EXPECT_TRUE(VerifyGraph(graph, {}).ok());
  graph.nodes.push_back({"add", {x, -1}, {x}, {}, {}});
  EXPECT_FALSE(VerifyGraph(graph, {}).ok());
}

TEST(VerifierTest, AcceptsRandomGraphs) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    testing::RandomGraph random(seed);
    const Module module = random.Make();
    ASSERT_TRUE(VerifyModule(module).ok()) << "seed " << seed << ": " << VerifyModule(module).ToString();
  }
}

}  // namespace
}  // namespace ting
