// tests/graph/parser_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/parser.h"

#include <gtest/gtest.h>

#include "graph/printer.h"
#include "tests/support/random_graph.h"

namespace ting {
namespace {

constexpr const char* kText =
    "graph encoder(%features: f32[F, 80], %pool: state f32[P, 512]) -> (%b0.ffn, %x) {\n"
    "  %x: f32[T, 256] = subsample_conv2d(%features) {kind = \"conv2d\", scale = 16.0} [conv0.w, out.w = shared.out]\n"
    "  %b0.ffn: f32[T, 256] = feed_forward(%x) {activation = \"swish\", residual = 0.5} [w1.w, w2.w]\n"
    "}\n";

TEST(ParserTest, ReadsWhatThePrinterWrites) {
  const auto graph = ParseGraph(kText);
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  EXPECT_EQ(graph->name, "encoder");
  ASSERT_EQ(graph->nodes.size(), 2U);
  EXPECT_EQ(graph->nodes[0].weights.at("conv0.w"), "encoder.x.conv0.w");
  EXPECT_EQ(graph->nodes[0].weights.at("out.w"), "shared.out");
  EXPECT_EQ(graph->nodes[1].attributes.Number("residual", 0), 0.5);
  EXPECT_TRUE(graph->values[graph->inputs[1]].state);
  EXPECT_EQ(PrintGraph(*graph), kText);
}

TEST(ParserTest, PrintThenParseIsTheIdentityOnRandomGraphs) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    testing::RandomGraph random(seed);
    const Module module = random.Make();
    const Graph& graph = module.graphs.at("random");
    const auto parsed = ParseGraph(PrintGraph(graph));
    ASSERT_TRUE(parsed.ok()) << "seed " << seed << ": " << parsed.status().ToString();
    ASSERT_EQ(*parsed, graph) << "seed " << seed;
  }
}

TEST(ParserTest, NumbersKeepTheirKindAndValue) {
  const auto graph = ParseGraph(
      "graph g(%x: f32[R, 4]) -> (%y) {\n"
      "  %y: f32[R, 4] = add(%x, %x) {a = 3, b = -0.1, c = 1e-05, d = 1.0, e = \"two words\"}\n}\n");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  const Attributes& attributes = graph->nodes[0].attributes;
  EXPECT_EQ(attributes.Int("a", 0), 3);
  EXPECT_EQ(attributes.Number("b", 0), -0.1);
  EXPECT_EQ(attributes.Number("c", 0), 1e-5);
  EXPECT_FALSE(std::holds_alternative<int64_t>(attributes.values().at("d")));
  EXPECT_EQ(attributes.Word("e", ""), "two words");
  const auto again = ParseGraph(PrintGraph(*graph));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, *graph);
}

struct BadText {
  const char* text;
  const char* expected;
};

TEST(ParserTest, SaysLineAndReason) {
  const BadText cases[] = {
      {"graph g(%x: f32[R]) -> (%y) {\n}\n", "line 2: %y is not defined"},
      {"graph g(%x: f33[R]) -> (%x) {\n}\n", "line 1: 'f33' is no element type"},
      {"graph g(%x: f32[R]) -> (%x) {\n  %x: f32[R] = add(%x, %x)\n}\n", "line 2: %x is defined twice"},
      {"graph g(%x: f32[R]) -> (%x) {\n  %y: f32[R] = add(%z, %x)\n}\n", "line 2: %z is not defined"},
      {"graph g(%x: f32[R]) -> (%x) {\n  %y: f32[R] = add(%x) {s = maybe}\n}\n", "expected a number"},
      {"graph g(%x: f32[R]) -> (%x) {\n  %y: f32[R] = add(%x) {s = 1, s = 2}\n}\n", "attribute s appears twice"},
      {"graph g(%x: f32[R]) -> (%x) {", "expected"},
      {"", "0 graphs"},
  };
  for (const BadText& bad : cases) {
    const auto graph = ParseGraph(bad.text);
    ASSERT_FALSE(graph.ok()) << bad.text;
    EXPECT_NE(graph.status().message().find(bad.expected), std::string::npos) << graph.status().message();
  }
}

TEST(ParserTest, EveryTruncationAndEveryChangedByteIsAnAnswer) {
  const std::string text = kText;
  for (size_t i = 0; i < text.size(); ++i) {
    (void)ParseGraph(std::string_view(text).substr(0, i));
    for (const char c : {'\0', '%', '[', '"', '9', '}', '\n'}) {
      std::string changed = text;
      changed[i] = c;
      (void)ParseGraph(changed);  // must not crash or hang; many changes are still valid
    }
  }
  EXPECT_FALSE(ParseGraph(text.substr(0, text.size() - 2)).ok());
}

}  // namespace
}  // namespace ting
