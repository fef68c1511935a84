// tests/runtime/device_memory_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// What the executor does for a device with memory of its own, on one that only pretends to have it: padded shapes, one
// copy of what lies on the host, true sizes in DeviceRows, plans and recordings that are kept.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "graph/parser.h"
#include "runtime/executor.h"

namespace ting {
namespace {

// y = a + b of the rows in use; checks what a kernel of such a device relies on.
class AddInUse : public Kernel {
 public:
  // As a kernel does whose workspace depends on how many sequences there are.
  size_t WorkspaceBytes(const KernelContext& context) const override {
    EXPECT_EQ(context.device_rows.size(), 2U);
    if (context.device_rows.empty()) return 0;
    EXPECT_EQ(context.device_rows[0].max_sequences % 2, 0);
    EXPECT_GT(context.device_rows[0].max_sequences, 0) << "planned without the bounds it will run with";
    planned_sequences_ = context.device_rows[0].max_sequences;
    return 64 * planned_sequences_;
  }
  Status Run(const KernelContext& context) override {
    EXPECT_EQ(context.device_rows.size(), 2U);
    const DeviceRows& rows = context.device_rows[0];
    EXPECT_GT(planned_sequences_, 0);
    const int64_t padded = context.inputs[0].rows();
    EXPECT_EQ(padded % 4, 0);
    EXPECT_LE(*rows.count, padded);
    if (rows.offsets != nullptr) {
      EXPECT_EQ(rows.offsets[rows.max_sequences], *rows.count);
      EXPECT_EQ(rows.max_length % 4, 0);
    }
    const int64_t D = context.inputs[0].shape[1];
    for (int64_t i = 0; i < *rows.count * D; ++i) {
      context.outputs[0].as<float>()[i] = context.inputs[0].as<float>()[i] + context.inputs[1].as<float>()[i];
    }
    return Status();
  }

 private:
  mutable int planned_sequences_ = 0;  // of the last plan
};

constexpr KernelEntry kEntries[] = {
    {"add", "fake", [](const OpDesc&) { return std::optional<std::string>(); },
     [](const OpDesc&) -> Result<std::unique_ptr<Kernel>> { return std::unique_ptr<Kernel>(new AddInUse()); }}};

class FakeDevice : public Device {
 public:
  explicit FakeDevice(ThreadPool& pool) : host_(std::move(CreateCpuDevice("ref", pool)).value()) {}
  const std::string& name() const override { return host_->name(); }
  Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) override {
    ++allocations;
    return host_->Allocate(bytes);
  }
  Result<std::unique_ptr<Stream>> CreateStream() override { return host_->CreateStream(); }
  std::span<const KernelEntry> kernels() const override { return kEntries; }
  bool uses_host_memory() const override { return false; }
  int64_t PadRows(int64_t rows) const override { return (rows + 3) / 4 * 4; }
  int PadSequences(int sequences) const override { return (sequences + 1) / 2 * 2; }
  Status RunRecorded(Stream&, std::unique_ptr<Recording>* recording, const std::function<Status()>& issue) override {
    (*recording ? replays : first_runs) += 1;
    if (!*recording) *recording = std::make_unique<Recording>();
    return issue();
  }

  void BeginStep(const StepLabels& labels, const StepWork& work) override {
    labels_ = &labels;
    ranges.push_back(labels.graph);
    for (const auto& parts : work) work_bytes.push_back(parts.at(0).bytes);
  }
  void BeginNode(size_t node) override { ranges.push_back(labels_->nodes[node].text); }
  void EndRange() override { ranges.emplace_back("end"); }
  bool wants_work() const override { return traced; }

  int allocations = 0, replays = 0, first_runs = 0;
  std::vector<std::string> ranges;
  std::vector<double> work_bytes;
  bool traced = false;

 private:
  const StepLabels* labels_ = nullptr;
  std::unique_ptr<Device> host_;
};

class DeviceMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* text = "graph g(%a: f32[R, 2], %b: f32[R, 2]) -> (%sum) {\n  %sum: f32[R, 2] = add(%a, %b)\n}\n";
    executor_ = std::move(Executor::Create(*ParseGraph(text), {}, device_)).value();
    stream_ = std::move(device_.CreateStream()).value();
  }
  // Sums of sequences of these lengths, both inputs on the host.
  void RunAndCheck(const std::vector<int32_t>& lengths) {
    const RowSet rows = RowSet::FromLengths(lengths);
    std::vector<float> a(rows.num_rows() * 2), b(a.size(), 0.5F);
    for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i);
    const Shape shape{rows.num_rows(), 2};
    const StepInput inputs[] = {{{a.data(), DType::kF32, shape}, &rows, true},
                                {{b.data(), DType::kF32, shape}, &rows, true}};
    const Status status = executor_->Run(inputs, {}, {}, *stream_, &outputs_);
    ASSERT_TRUE(status.ok()) << status.ToString();
    ASSERT_EQ(outputs_[0].tensor.shape, shape);
    EXPECT_EQ(*outputs_[0].device_rows.count, rows.num_rows());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(outputs_[0].tensor.as<float>()[i], a[i] + b[i]);
  }

  ThreadPool pool_{1};
  FakeDevice device_{pool_};
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Stream> stream_;
  std::vector<StepOutput> outputs_;
};

TEST_F(DeviceMemoryTest, StepsOfOnePaddedSizeShareAPlan) {
  RunAndCheck({3, 2});
  const int allocations = device_.allocations;
  RunAndCheck({4, 4});  // 8 rows, as 5 are padded
  RunAndCheck({1, 4});
  RunAndCheck({3, 2});
  EXPECT_EQ(device_.first_runs, 1);
  EXPECT_EQ(device_.replays, 3);
  EXPECT_EQ(device_.allocations, allocations);
}

TEST_F(DeviceMemoryTest, OtherSizesHavePlansOfTheirOwn) {
  RunAndCheck({9, 30});
  RunAndCheck({1});
  RunAndCheck({1, 1, 1});  // other sequences, the same rows
  EXPECT_EQ(device_.first_runs, 3);
  RunAndCheck({9, 30});
  EXPECT_EQ(device_.replays, 1);
}

TEST_F(DeviceMemoryTest, GrowingForgetsThePlans) {
  RunAndCheck({4});
  RunAndCheck({400});
  RunAndCheck({4});  // its addresses went with the old arena
  EXPECT_EQ(device_.first_runs, 3);
}

TEST_F(DeviceMemoryTest, StepsAndNodesAreRanges) {
  RunAndCheck({3, 2});
  EXPECT_THAT(device_.ranges, ::testing::ElementsAre("g", "%sum add fake", "end", "end"));
  EXPECT_TRUE(device_.work_bytes.empty());  // nobody asked
}

TEST_F(DeviceMemoryTest, ATraceIsToldTheWorkOfTheTrueSizes) {
  device_.traced = true;
  RunAndCheck({3, 2});
  EXPECT_THAT(device_.work_bytes, ::testing::ElementsAre(3 * 5 * 2 * 4.0));  // 5 rows, not 8
  EXPECT_EQ(executor_->work().bytes, 0);
  executor_->EnableWorkCount();
  RunAndCheck({3, 2});
  RunAndCheck({4});
  EXPECT_EQ(executor_->work().bytes, 3 * 9 * 2 * 4.0);
}

}  // namespace
}  // namespace ting
