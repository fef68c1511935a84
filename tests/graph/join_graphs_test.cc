// tests/graph/join_graphs_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/join_graphs.h"

#include <gtest/gtest.h>

#include "graph/parser.h"
#include "graph/printer.h"

namespace ting {
namespace {

Graph Parsed(const std::string& text) {
  const auto graph = ParseGraph(text);
  EXPECT_TRUE(graph.ok()) << graph.status().ToString();
  return graph.ok() ? *graph : Graph();
}

const Graph& Encoder() {
  static const Graph graph = Parsed(
      "graph encoder(%features: f32[F, 80]) -> (%out) {\n"
      "  %x: f32[T, 4] = subsample_conv2d(%features) {kind = \"conv2d\"} [conv0.w]\n"
      "  %out: f32[T, 4] = layer_norm(%x) [norm.gamma]\n"
      "}\n");
  return graph;
}
const Graph& Head() {
  static const Graph graph = Parsed(
      "graph ctc(%hidden: f32[T, 4], %other: f32[T, 4]) -> (%y, %x) {\n"
      "  %x: f32[T, 4] = add(%hidden, %other)\n"
      "  %y: f32[T, 6] = linear(%x) [linear.w = matrix]\n"
      "}\n");
  return graph;
}

TEST(JoinGraphs, LinksInputsAndKeepsNamesApart) {
  const auto joined = JoinGraphs("both", Encoder(), Head(), {{"hidden", "out"}});
  ASSERT_TRUE(joined.ok()) << joined.status().ToString();
  EXPECT_EQ(PrintGraph(*joined),
            "graph both(%features: f32[F, 80], %other: f32[T, 4]) -> (%out, %y, %ctc.x) {\n"
            "  %x: f32[T, 4] = subsample_conv2d(%features) {kind = \"conv2d\"} [conv0.w = encoder.x.conv0.w]\n"
            "  %out: f32[T, 4] = layer_norm(%x) [norm.gamma = encoder.out.norm.gamma]\n"
            "  %ctc.x: f32[T, 4] = add(%out, %other)\n"
            "  %y: f32[T, 6] = linear(%ctc.x) [linear.w = matrix]\n"
            "}\n");
}

TEST(JoinGraphs, SaysWhyTwoDoNotFit) {
  const std::pair<std::map<std::string, std::string>, const char*> cases[] = {
      {{{"hidden", "x"}}, "it has no output %x"},
      {{{"nothing", "out"}}, "has 0 of these inputs"},
  };
  for (const auto& [links, expected] : cases) {
    const auto joined = JoinGraphs("both", Encoder(), Head(), links);
    ASSERT_FALSE(joined.ok());
    EXPECT_NE(joined.status().message().find(expected), std::string::npos) << joined.status().message();
  }
  Graph wide = Head();
  wide.values[wide.inputs[0]].type.dims[1] = Dim::Fixed(5);
  EXPECT_FALSE(JoinGraphs("both", Encoder(), wide, {{"hidden", "out"}}).ok());
}

}  // namespace
}  // namespace ting
