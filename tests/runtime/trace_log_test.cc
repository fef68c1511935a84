// tests/runtime/trace_log_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// How a GPU's activities find the module nodes that queued them, with the activities made up.
#include "runtime/trace_log.h"

#include <gmock/gmock.h>

#include <thread>

namespace ting {
namespace {

using ::testing::ElementsAre;
using Kind = TraceEvent::Kind;

// Says which id a call would carry now.
class FakeCorrelator : public Correlator {
 public:
  int64_t NowNs() override { return ++now_; }
  void Push(uint64_t id) override { ids_.push_back(id); }
  void Pop() override { ids_.pop_back(); }
  uint64_t id() const { return ids_.empty() ? 0 : ids_.back(); }
  size_t depth() const { return ids_.size(); }

 private:
  int64_t now_ = 1000;
  std::vector<uint64_t> ids_;
};

const StepLabels kLabels{
    "encoder",
    {MakeNodeLabel("a", "linear", "fast"), MakeNodeLabel("b", "add", "slow"), MakeNodeLabel("c", "add", "slow")}};

class TraceLogTest : public ::testing::Test {
 protected:
  GpuActivity Kernel(const char* name, int64_t start_ns, uint32_t correlation, bool replayed, uint32_t stream = 7) {
    GpuActivity activity;
    activity.event.name = name, activity.event.start_ns = start_ns, activity.event.end_ns = start_ns + 10;
    activity.event.track = stream, activity.correlation = correlation, activity.replayed = replayed;
    return activity;
  }
  // A call that the thread makes now; its correlation.
  uint32_t Call() { return ranges_[++calls_] = correlator_.id(), calls_; }
  // A replay of a step whose nodes queue `recorded`.
  uint32_t Replay(const RecordedNodes& recorded, const StepWork& work = {}) {
    log_.BeginStep(kLabels, work);
    log_.Replays(std::make_shared<const RecordedNodes>(recorded));
    const uint32_t call = Call();
    log_.EndRange();
    return call;
  }
  // "kernel node" of everything on the GPU that is no node, in order.
  static std::vector<std::string> NodesOf(const std::vector<TraceEvent>& events) {
    std::vector<std::string> nodes;
    for (const TraceEvent& event : events) {
      if (event.kind == Kind::kKernel) nodes.push_back(event.name + " " + event.graph + "/" + event.node);
    }
    return nodes;
  }
  static std::vector<TraceEvent> Of(Kind kind, const std::vector<TraceEvent>& events) {
    std::vector<TraceEvent> of;
    std::copy_if(events.begin(), events.end(), std::back_inserter(of), [&](const auto& e) { return e.kind == kind; });
    return of;
  }

  FakeCorrelator correlator_;
  TraceLog log_{correlator_};
  uint32_t calls_ = 0;
  std::map<uint32_t, uint64_t> ranges_;
};

TEST_F(TraceLogTest, DirectCallsBelongToTheNodeTheyWereMadeIn) {
  log_.BeginStep(kLabels, {});
  const uint32_t inputs = Call();
  log_.BeginNode(0);
  const uint32_t first = Call(), second = Call();
  log_.EndRange();
  log_.BeginNode(2);
  const uint32_t third = Call();
  log_.EndRange();
  log_.EndRange();
  EXPECT_EQ(correlator_.depth(), 0U);
  const uint32_t outside = Call();
  const auto events =
      log_.Attribute({Kernel("k3", 40, third, false), Kernel("k1", 20, first, false), Kernel("k2", 30, second, false),
                      Kernel("in", 10, inputs, false), Kernel("k4", 50, outside, false), Kernel("k5", 60, 99, false)},
                     ranges_);
  EXPECT_THAT(NodesOf(events),
              ElementsAre("in encoder/", "k1 encoder/a", "k2 encoder/a", "k3 encoder/c", "k4 /", "k5 /"));
  const auto nodes = Of(Kind::kNode, events);
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[0].name, "a");
  EXPECT_EQ(nodes[0].start_ns, 20);
  EXPECT_EQ(nodes[0].end_ns, 40);
  EXPECT_EQ(nodes[0].implementation, "fast");
}

TEST_F(TraceLogTest, ReplaysAreToldApartByOrder) {
  const RecordedNodes recorded{0, 0, 1, 2};
  const uint32_t one = Replay(recorded), two = Replay(recorded);
  std::vector<GpuActivity> activities;
  for (int i = 3; i >= 0; --i) {  // as they come: in no order
    activities.push_back(Kernel("first", 100 + 10 * i, one, true));
    activities.push_back(Kernel("second", 200 + 10 * i, two, true));
  }
  const auto events = log_.Attribute(activities, ranges_);
  EXPECT_THAT(NodesOf(events),
              ElementsAre("first encoder/a", "first encoder/a", "first encoder/b", "first encoder/c",
                          "second encoder/a", "second encoder/a", "second encoder/b", "second encoder/c"));
  EXPECT_EQ(Of(Kind::kNode, events).size(), 6U);
  EXPECT_NE(events.front().step, events.back().step);
}

TEST_F(TraceLogTest, AStepsCopiesAreNotItsGraphs) {
  log_.BeginStep(kLabels, {});
  const uint32_t copy = Call();
  log_.Replays(std::make_shared<const RecordedNodes>(RecordedNodes{1}));
  const uint32_t launch = Call();
  log_.EndRange();
  const auto events = log_.Attribute({Kernel("copy", 10, copy, false), Kernel("k", 20, launch, true)}, ranges_);
  EXPECT_THAT(NodesOf(events), ElementsAre("copy encoder/", "k encoder/b"));
}

// Better no name than a wrong one.
TEST_F(TraceLogTest, OtherNumbersThanNotedNameNoNode) {
  const uint32_t fewer = Replay({0, 1, 2}), unknown = Replay({});
  log_.BeginStep(kLabels, {});
  log_.Replays(nullptr);  // recorded before there was a trace
  const uint32_t before = Call();
  log_.EndRange();
  const auto events = log_.Attribute({Kernel("k1", 10, fewer, true), Kernel("k2", 20, fewer, true),
                                      Kernel("k3", 30, unknown, true), Kernel("k4", 40, before, true)},
                                     ranges_);
  EXPECT_THAT(NodesOf(events), ElementsAre("k1 encoder/", "k2 encoder/", "k3 encoder/", "k4 encoder/"));
}

TEST_F(TraceLogTest, WorkGoesToNodesAndToTheirKernelsWhereTheseCorrespond) {
  // a: two parts, two kernels; b: two parts in one kernel; c: one part, two kernels.
  const StepWork work{
      {{"x", 1, 2, true}, {"y", 10, 20, true}}, {{"x", 3, 4, true}, {"y", 30, 40, true}}, {{"z", 5, 6, false}}};
  const uint32_t call = Replay({0, 0, 1, 2, 2}, work);
  std::vector<GpuActivity> activities;
  for (int i = 0; i < 5; ++i) activities.push_back(Kernel("k", 100 + 20 * i, call, true));
  const auto events = log_.Attribute(activities, ranges_);
  std::vector<double> kernels, nodes;
  std::vector<std::string> names;
  for (const TraceEvent& event : Of(Kind::kKernel, events)) {
    kernels.push_back(event.flops);
    names.push_back(event.part);
  }
  for (const TraceEvent& event : Of(Kind::kNode, events)) nodes.push_back(event.bytes);
  EXPECT_THAT(kernels, ElementsAre(1, 10, 33, 0, 0));
  EXPECT_THAT(names, ElementsAre("x", "y", "", "", ""));
  EXPECT_THAT(nodes, ElementsAre(22, 44, 6));
}

TEST_F(TraceLogTest, ThreadsHaveTheirOwnRangesAndTracks) {
  log_.BeginStep(kLabels, {});
  std::thread([&] {
    log_.BeginStep({"decoder", {}}, {});
    log_.EndRange();
    log_.EndRange();    // one too many: began before the log was there
    log_.BeginNode(0);  // outside of any step
  }).join();
  EXPECT_EQ(correlator_.depth(), 1U);
  log_.EndRange();
  const auto ranges = Of(Kind::kRange, log_.Attribute({}, {}));
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_EQ(ranges[0].name, "encoder");
  EXPECT_EQ(ranges[1].name, "decoder");
  EXPECT_NE(ranges[0].track, ranges[1].track);
  EXPECT_LT(ranges[0].start_ns, ranges[1].start_ns);
  EXPECT_GT(ranges[0].end_ns, ranges[1].end_ns);
}

TEST_F(TraceLogTest, ClearForgets) {
  const uint32_t call = Replay({0});
  log_.Clear();
  const auto events = log_.Attribute({Kernel("k", 10, call, true)}, ranges_);
  EXPECT_THAT(NodesOf(events), ElementsAre("k /"));
  EXPECT_EQ(events.size(), 1U);
}

}  // namespace
}  // namespace ting
