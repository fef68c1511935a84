// tests/tools/trace_report_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/trace_report.h"

#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>

#include "tools/ting/dispatch_text.h"

namespace ting::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = TraceEvent::Kind;

TraceEvent Event(Kind kind, const std::string& name, const std::string& node, int64_t start_ns, int64_t end_ns) {
  TraceEvent event;
  event.kind = kind, event.name = name, event.start_ns = start_ns, event.end_ns = end_ns;
  event.graph = "encoder", event.node = node;
  if (!node.empty()) event.op = "linear", event.implementation = "cuda.hopper";
  event.track = kind == Kind::kRange ? 0 : 7;
  return event;
}

// A copy, then two nodes of one op; the second kernel began while the first ran.
StageTrace Example() {
  std::vector<TraceEvent> events{
      Event(Kind::kRange, "encoder", "", 900, 950),
      Event(Kind::kCopy, "copy to device", "", 1000, 2000),
      Event(Kind::kKernel, "void ting::cuda::(anonymous namespace)::Gemm<(int)3, ting::cuda::Tile<2> >(float*, int)",
            "a", 3000, 7000),
      Event(Kind::kNode, "a", "a", 3000, 7000),
      Event(Kind::kKernel, "void ting::cuda::(anonymous namespace)::Gemm<(int)3, ting::cuda::Tile<2> >(float*, int)",
            "b", 6000, 11000),
      Event(Kind::kNode, "b", "b", 6000, 11000),
  };
  events[1].num_bytes = 4096;
  events[2].part = events[4].part = "up";
  for (const size_t i : {2, 3, 4, 5}) events[i].flops = 8e6, events[i].bytes = 4e3;
  return {"encoder", 8, 1, events};
}

TEST(TraceReport, KernelNamesLoseWhatEveryOneHas) {
  EXPECT_EQ(
      tool::ShortKernelName("void ting::cuda::(anonymous namespace)::Gemm<(int)3, ting::cuda::Tile<2> >(float*, int)"),
      "Gemm<(int)3, Tile<2> >");
  EXPECT_EQ(tool::ShortKernelName("nvjet_hsh_64x8"), "nvjet_hsh_64x8");
  EXPECT_EQ(tool::ShortKernelName("void f<g(int)>(h)"), "f<g(int)>");
  EXPECT_EQ(tool::ShortKernelName(""), "");
}

TEST(TraceReport, TheTableAddsUp) {
  const std::string table = tool::TraceTable(Example());
  // 10 us from first to last; idle 1 us between the copy and the first kernel.
  EXPECT_THAT(table,
              HasSubstr("encoder, batch 8: 1 steps traced, 10.0 us each from first to last activity; GPU idle 10.0 % "
                        "of it, in 1 gaps of 1.00 us"));
  // 4 us, and 4 us beyond the end of the one in front; 16 MFLOP in 8 us are 2 TFLOP/s.
  EXPECT_THAT(table, ::testing::ContainsRegex("linear cuda.hopper +2 +4.00 +8.0 +88.9% +0.50 +2.0 +1.0\n"));
  EXPECT_THAT(table, ::testing::ContainsRegex("  up: Gemm<.*> +2 +4.00 +8.0 +88.9% +0.50 +2.0 +1.0\n"));
  EXPECT_THAT(table, ::testing::ContainsRegex("\\(encoder: inputs and results\\) +1 +1.00 +1.0 +11.1% +0.00 +- +-\n"));
  EXPECT_THAT(tool::TraceTable({"encoder", 1, 8, {}}), HasSubstr("0.0 us each"));  // nothing recorded
}

TEST(TraceReport, JsonHasATrackAStreamWithoutOverlaps) {
  const auto json = nlohmann::json::parse(tool::TraceJson({Example()}), nullptr, false);
  ASSERT_TRUE(json.is_object());
  std::map<std::pair<int, int>, std::string> tracks;
  std::map<int, std::string> processes;
  for (const auto& event : json["traceEvents"]) {
    if (event["name"] == "thread_name") tracks[{event["pid"], event["tid"]}] = event["args"]["name"];
    if (event["name"] == "process_name") processes[event["pid"]] = event["args"]["name"];
  }
  std::map<std::string, std::vector<std::string>> names;
  std::map<std::string, double> ends;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] != "X") continue;
    const std::string track = processes[event["pid"]] + ", " + tracks[{event["pid"], event["tid"]}];
    names[track].push_back(event["name"]);
    EXPECT_GE(event["ts"].get<double>(), ends[track]) << track;
    ends[track] = event["ts"].get<double>() + event["dur"].get<double>();
  }
  EXPECT_THAT(names["host, thread 0"], ElementsAre("encoder"));
  EXPECT_THAT(names["GPU 0, stream 7: module nodes"], ElementsAre("a", "b"));
  EXPECT_THAT(names["GPU 0, stream 7"], ElementsAre("copy to device", "Gemm<(int)3, Tile<2> >"));
  EXPECT_THAT(names["GPU 0, stream 7: begun early"], ElementsAre("Gemm<(int)3, Tile<2> >"));
}

TEST(TraceReport, AsManyTracksAsCallsAtOnce) {
  StageTrace trace{"encoder", 1, 1, {}};
  for (const int64_t start : {0, 10, 20, 35, 45})
    trace.events.push_back(Event(Kind::kKernel, "k", "a", start, start + 30));
  const auto json = nlohmann::json::parse(tool::TraceJson({trace}), nullptr, false);
  std::vector<int> tracks;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "X") tracks.push_back(event["tid"].get<int>());
  }
  ASSERT_EQ(tracks.size(), 5U);
  const int first = tracks[0];
  EXPECT_THAT(tracks, ElementsAre(first, first + 1, first + 2, first, first + 1));
}

TEST(TraceReport, JsonTellsWhoseAKernelIs) {
  const auto json = nlohmann::json::parse(tool::TraceJson({Example()}), nullptr, false);
  const auto& events = json["traceEvents"];
  const auto kernel = std::find_if(events.begin(), events.end(), [](const auto& e) { return e["cat"] == "kernel"; });
  ASSERT_NE(kernel, events.end());
  EXPECT_EQ((*kernel)["name"], "Gemm<(int)3, Tile<2> >");
  EXPECT_EQ((*kernel)["ts"], 2.1);  // us since the first event
  EXPECT_EQ((*kernel)["dur"], 4.0);
  EXPECT_EQ((*kernel)["args"]["node"], "%a");
  EXPECT_EQ((*kernel)["args"]["op"], "linear");
  EXPECT_EQ((*kernel)["args"]["implementation"], "cuda.hopper");
  EXPECT_EQ((*kernel)["args"]["stage"], "encoder, batch 8");
  EXPECT_EQ((*kernel)["args"]["TFLOP/s"], 2.0);
  EXPECT_EQ((*kernel)["args"]["own_us"], 4.0);
}

TEST(TraceReport, AnEmptyTraceIsStillJson) {
  EXPECT_TRUE(nlohmann::json::parse(tool::TraceJson({}), nullptr, false)["traceEvents"].empty());
  EXPECT_FALSE(tool::WriteTrace("/nowhere/at/all.json", {}).ok());
}

TEST(DispatchText, GroupsWhatIsAlike) {
  const std::vector<NodeDispatch> nodes{
      {"encoder", "b0.conv", "conv_module", "cuda.hopper", {"cuda.fused: width 300"}},
      {"encoder", "b0.norm", "layer_norm", "cuda", {}},
      {"encoder", "b1.conv", "conv_module", "cuda.hopper", {"cuda.fused: width 300"}},
      {"encoder", "b2.conv", "conv_module", "cuda.hopper", {}},
      {"ctc", "logp", "log_softmax", "", {"a: no", "b: never"}},
  };
  EXPECT_EQ(tool::DispatchText(nodes),
            "encoder: 2 x conv_module: cuda.hopper; refused: cuda.fused: width 300\n"
            "encoder: 1 x layer_norm: cuda\n"
            "encoder: 1 x conv_module: cuda.hopper\n"
            "ctc: 1 x log_softmax: nothing; refused: a: no; b: never\n");
}

}  // namespace
}  // namespace ting::testing
