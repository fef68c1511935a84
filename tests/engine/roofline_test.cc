// tests/engine/roofline_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The roofline of the 46 M AISHELL conformer on an H200, against a derivation by hand: 14.75 GFLOP an utterance of 5 s
// (2.95 GFLOP a second of audio), and 179 kernels a step.
#include <gtest/gtest.h>

#include "engine/device_stages.h"
#include "graph/op_table.h"
#include "models/u2/u2_model.h"
#include "runtime/dispatch.h"

namespace ting {
namespace {

constexpr int kFrames = 500, kEncoderFrames = 124, kHypotheses = 10, kTokens = 16;

class RooflineTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = new U2Model(std::move(LoadU2Model("random:aishell", std::nullopt)).value()); }
  static void TearDownTestSuite() { delete model_; }

  // Work of a graph whose inputs have these shapes, with the row set of the first (or for decoders the seventh) input.
  std::vector<KernelWork> WorkOf(const std::string& name, const std::map<std::string, int64_t>& sizes,
                                 const RowSet& rows, int element_bytes) {
    const Graph& graph = model_->module.graphs.at(name);
    std::vector<KernelWork> work;
    for (const Node& node : graph.nodes) {
      const auto desc = DescribeNode(graph, node, model_->module.weights, device_->backend());
      EXPECT_TRUE(desc.ok());
      const auto view = [&](ValueId id) {
        TensorView tensor{nullptr, graph.values[id].type.dtype, {}};
        for (const Dim& dim : graph.values[id].type.dims) {
          tensor.shape.Append(dim.fixed() ? dim.size : sizes.at(dim.symbol));
        }
        return tensor;
      };
      std::vector<TensorView> inputs, outputs;
      std::vector<const RowSet*> input_rows;
      for (const ValueId id : node.inputs) inputs.push_back(view(id)), input_rows.push_back(&rows);
      for (const ValueId id : node.outputs) outputs.push_back(view(id));
      const StepOptions options;
      const WorkFunction function = MakeWorkFunction(*desc, element_bytes);
      EXPECT_TRUE(function) << node.op;
      function({inputs, outputs, input_rows, &options}, &work);
    }
    return work;
  }

  // Everything between samples in host memory and rescored scores.
  std::vector<KernelWork> Chain(int batch, int element_bytes) {
    const int64_t T = int64_t{kEncoderFrames} * batch, U = int64_t{kHypotheses} * kTokens * batch;
    const RowSet features = RowSet::FromLengths(std::vector<int32_t>(batch, kFrames));
    const RowSet rows = RowSet::FromLengths(std::vector<int32_t>(batch, kEncoderFrames));
    const std::map<std::string, int64_t> sizes{
        {"F", int64_t{kFrames} * batch}, {"T", T}, {"K", 10}, {"U", U}, {"U1", U + 1},
        {"A", U * (kTokens + 1) / 2},    {"P", U}, {"G", U}};
    std::vector<KernelWork> chain{FeaturesWork(int64_t{80000} * batch, int64_t{kFrames} * batch, 80),
                                  SearchWork(T, 10)};
    // The encoder's rows have two row sets: the subsampling's input, and everything behind it.
    std::vector<KernelWork> encoder = WorkOf("encoder", sizes, rows, element_bytes);
    const std::vector<KernelWork> subsampling = WorkOf("encoder", sizes, features, element_bytes);
    encoder[0] = subsampling[0];
    chain.insert(chain.end(), encoder.begin(), encoder.end());
    for (const char* graph : {"ctc", "cross_left", "decoder_left", "score_left"}) {
      const auto work = WorkOf(graph, sizes, rows, element_bytes);
      chain.insert(chain.end(), work.begin(), work.end());
    }
    return chain;
  }
  static double Rtfx(int batch, double seconds) { return 5.0 * batch / seconds; }

  static U2Model* model_;
  ThreadPool pool_{1};
  std::unique_ptr<Device> device_ = std::move(CreateCpuDevice("ref", pool_)).value();
};
U2Model* RooflineTest::model_ = nullptr;

TEST_F(RooflineTest, CountsTheOperationsOfTheDerivation) {
  const auto chain = Chain(1, 2);
  WorkTotal total;
  for (const KernelWork& work : chain) {
    EXPECT_GT(work.flops + work.bytes, 0) << work.part;
    total += {work.flops, work.bytes, 0};
  }
  // Without the product of queries with positions, which folding removes (2 T T d a block), and with the features.
  const double positions = 12 * 2.0 * kEncoderFrames * kEncoderFrames * 256;
  EXPECT_NEAR(total.flops, 14750e6 - positions, 0.01 * 14750e6);
  EXPECT_NEAR(static_cast<double>(chain.size()), 179, 2);
}

TEST_F(RooflineTest, IsThatOfTheDerivation) {
  const auto peaks = GpuPeaks("NVIDIA H200", 2, false);
  ASSERT_TRUE(peaks.has_value());
  // By batch: RTFx with a microsecond a node.
  for (const auto& [batch, rtfx] : {std::pair(1, 27500.0), {8, 162900.0}, {16, 211100.0}, {64, 225000.0}}) {
    const WorkTotal total = TotalOf(Chain(batch, 2), peaks);
    EXPECT_NEAR(Rtfx(batch, total.least_s), rtfx, 0.05 * rtfx) << "batch " << batch;
  }
}

TEST_F(RooflineTest, FollowsTypeAndDevice) {
  const auto chain = Chain(64, 2), wide = Chain(64, 4);
  const double f16 = TotalOf(chain, GpuPeaks("NVIDIA H200", 2, false)).least_s;
  EXPECT_GT(TotalOf(chain, GpuPeaks("NVIDIA H100 80GB HBM3", 2, false)).least_s, 1.05 * f16);
  const double tf32 = TotalOf(wide, GpuPeaks("NVIDIA H200", 4, true)).least_s;
  const double f32 = TotalOf(wide, GpuPeaks("NVIDIA H200", 4, false)).least_s;
  EXPECT_GT(tf32, 1.5 * f16);
  EXPECT_GT(f32, 5 * tf32);
  EXPECT_FALSE(GpuPeaks("NVIDIA A100-SXM4-80GB", 2, false).has_value());
  EXPECT_EQ(TotalOf(chain, std::nullopt).least_s, 0);
}

TEST(WorkFunctions, EveryOpHasOne) {
  for (const OpSpec& op : AllOps()) {
    EXPECT_TRUE(MakeWorkFunction({std::string(op.name), "node", {}, {}, nullptr}, 2)) << op.name;
  }
  EXPECT_FALSE(MakeWorkFunction({"dream", "node", {}, {}, nullptr}, 2));
}

TEST_F(RooflineTest, MasksTakeWorkAway) {
  const OpDesc desc{"self_attention", "a", {}, {}, nullptr};
  const TensorView x{nullptr, DType::kF32, {20, 8}};
  const RowSet rows = RowSet::FromLengths(std::vector<int32_t>{12, 8});
  const RowSet* const input_rows[] = {&rows};
  const auto attention_flops = [&](StepOptions options) {
    std::vector<KernelWork> work;
    MakeWorkFunction(desc, 2)({{&x, 1}, {&x, 1}, input_rows, &options}, &work);
    return work[1].flops;
  };
  EXPECT_EQ(attention_flops({}), 4 * (12 * 12 + 8 * 8) * 8);
  EXPECT_EQ(attention_flops({5, 0}), 4 * (25 + 25 + 4 + 25 + 9) * 8);            // a row sees its own chunk
  EXPECT_EQ(attention_flops({5, -1}), 4 * (25 + 50 + 2 * 12 + 25 + 3 * 8) * 8);  // and all before it
}

}  // namespace
}  // namespace ting
