// tests/runtime/cuda_trace_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The tracer on a GPU: every kernel of a step finds its node, whether the step was queued, recorded or replayed.
#include <gmock/gmock.h>

#include "graph/parser.h"
#include "runtime/executor.h"
#include "runtime/gpu_device.h"
#include "ting/trace.h"

namespace ting {
namespace {

using ::testing::ElementsAre;
using Kind = TraceEvent::Kind;

constexpr const char* kText =
    "graph g(%a: f32[R, 4], %b: f32[R, 4]) -> (%twice) {\n"
    "  %sum: f32[R, 4] = add(%a, %b)\n"
    "  %twice: f32[R, 4] = add(%sum, %sum)\n"
    "}\n";

TEST(CudaTrace, EveryKernelFindsItsNode) {
  auto device = CreateGpuDevice({});
  if (!device.ok()) GTEST_SKIP() << device.status().message();
  auto tracer = Tracer::Create();
  if (!tracer.ok()) GTEST_SKIP() << tracer.status().message();
  EXPECT_FALSE(Tracer::Create().ok()) << "a second tracer";
  auto executor = Executor::Create(*ParseGraph(kText), {}, **device);
  ASSERT_TRUE(executor.ok()) << executor.status().ToString();
  auto stream = (*device)->CreateStream();
  ASSERT_TRUE(stream.ok());

  std::vector<float> a(1000 * 4, 1), b(a.size(), 2);
  const TensorView views[] = {{a.data(), DType::kF32, {1000, 4}}, {b.data(), DType::kF32, {1000, 4}}};
  const StepInput inputs[] = {{views[0], nullptr, true}, {views[1], nullptr, true}};
  std::vector<StepOutput> outputs;
  ASSERT_TRUE((*tracer)->Start().ok());
  for (int i = 0; i < 4; ++i) {
    const Status status = (*executor)->Run(inputs, {}, {}, **stream, &outputs);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  ASSERT_TRUE((*stream)->Synchronize().ok());
  const auto events = (*tracer)->Stop();
  ASSERT_TRUE(events.ok()) << events.status().ToString();

  std::vector<std::string> kernels, copies, nodes;
  for (const TraceEvent& event : *events) {
    EXPECT_GT(event.end_ns, event.start_ns) << event.name;
    // The step's inputs come by a kernel that reads pinned memory: it is the step's, of no node.
    const bool is_input = event.kind == Kind::kCopy || (event.kind == Kind::kKernel && event.node.empty());
    if (is_input) copies.push_back(event.graph + "/" + event.node);
    if (event.kind == Kind::kKernel && !is_input) kernels.push_back(event.node);
    if (event.kind != Kind::kNode) continue;
    nodes.push_back(event.node);
    EXPECT_EQ(event.bytes, 3 * 1000 * 4 * 4.0);
  }
  EXPECT_THAT(kernels, ElementsAre("sum", "twice", "sum", "twice", "sum", "twice", "sum", "twice"));
  EXPECT_THAT(copies, ElementsAre("g/", "g/", "g/", "g/"));
  EXPECT_EQ(nodes, kernels);
}

TEST(CudaTrace, OneMayFollowAnother) {
  if (const auto device = CreateGpuDevice({}); !device.ok()) GTEST_SKIP() << device.status().message();
  for (int i = 0; i < 2; ++i) {
    auto tracer = Tracer::Create();
    if (!tracer.ok()) GTEST_SKIP() << tracer.status().message();
    ASSERT_TRUE((*tracer)->Start().ok());
    const auto events = (*tracer)->Stop();
    ASSERT_TRUE(events.ok());
    EXPECT_TRUE(events->empty());
  }
}

}  // namespace
}  // namespace ting
