// tests/models/u2_golden_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The module graphs against PyTorch WeNet's tensors, on both backends: subsampling, every block, encoder output and
// CTC log-probabilities; unoptimised and optimised. The graph's intermediate values become outputs for this.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "importers/checkpoint/checkpoint.h"
#include "models/u2/u2_graphs.h"
#include "models/u2/u2_model.h"
#include "passes/precision/pack_weights.h"
#include "runtime/executor.h"
#include "tests/support/npz.h"
#include "tests/support/paths.h"

namespace ting {
namespace {

using testing::Npz;

struct Errors {
  double max_abs = 0, mean_abs = 0, median_abs = 0, max_rel = 0, mean_rel = 0, median_rel = 0;
};

// |a - b| and |a - b| / (|b| + 1e-5) over all elements.
Errors Compare(const float* a, const std::vector<float>& b) {
  std::vector<double> absolute(b.size()), relative(b.size());
  Errors errors;
  for (size_t i = 0; i < b.size(); ++i) {
    absolute[i] = std::abs(static_cast<double>(a[i]) - b[i]);
    relative[i] = absolute[i] / (std::abs(static_cast<double>(b[i])) + 1e-5);
    errors.mean_abs += absolute[i] / static_cast<double>(b.size());
    errors.mean_rel += relative[i] / static_cast<double>(b.size());
  }
  for (auto* values : {&absolute, &relative}) std::sort(values->begin(), values->end());
  errors.max_abs = absolute.back(), errors.median_abs = absolute[absolute.size() / 2];
  errors.max_rel = relative.back(), errors.median_rel = relative[relative.size() / 2];
  return errors;
}

std::string Row(const std::string& what, const Errors& e) {
  return fmt::format("{:34} abs max {:.2e} mean {:.2e} median {:.2e}  rel max {:.2e} mean {:.2e} median {:.2e}", what,
                     e.max_abs, e.mean_abs, e.median_abs, e.max_rel, e.mean_rel, e.median_rel);
}

struct Case {
  const char* name;
  const char* backend;
  bool optimised;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name << " on " << c.backend; }

class U2GoldenTest : public ::testing::TestWithParam<Case> {
 protected:
  // Makes %subsample and each block's output outputs of the encoder graph, in that order before %out.
  static void ExposeBlocks(Graph& graph, int64_t num_blocks) {
    std::vector<std::string> names{"subsample"};
    for (int64_t i = 0; i < num_blocks; ++i) {
      names.push_back("b" + std::to_string(i) + (GetParam().optimised ? ".ffn" : ".out"));
    }
    std::vector<ValueId> exposed;
    for (const std::string& name : names) {
      for (size_t id = 0; id < graph.values.size(); ++id) {
        if (graph.values[id].name == name) exposed.push_back(static_cast<ValueId>(id));
      }
    }
    graph.outputs.insert(graph.outputs.begin(), exposed.begin(), exposed.end());
  }

  void CheckModel(const std::string& model_dir, const std::string& golden, const std::string& recording,
                  const std::string& features_golden) {
    auto checkpoint = LoadCheckpoint(model_dir);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().ToString();
    auto module = BuildU2Graphs(*checkpoint);
    ASSERT_TRUE(module.ok()) << module.status().ToString();
    if (GetParam().optimised) {
      ASSERT_TRUE(Optimize(*module).ok());
      ASSERT_TRUE(PackWeights(*module, Precision::kF32).ok());
    }
    ExposeBlocks(module->graphs["encoder"], checkpoint->config.encoder.num_blocks);
    ASSERT_TRUE(VerifyRun(*module, *checkpoint, golden, recording, features_golden));
  }

  bool VerifyRun(const Module& module, const Checkpoint& checkpoint, const std::string& golden,
                 const std::string& recording, const std::string& features_golden) {
    const Npz encoder_npz = Npz::Load(golden + "/encoder.npz");
    const Npz ctc_npz = Npz::Load(golden + "/ctc.npz");
    const Npz features_npz = Npz::Load(features_golden + "/features.npz");
    const auto features = features_npz[recording + ".fbank"].As<float>();
    ThreadPool pool(2);
    const auto device = std::move(CreateCpuDevice(GetParam().backend, pool)).value();
    const auto stream = std::move(device->CreateStream()).value();
    auto executor = Executor::Create(module.graphs.at("encoder"), module.weights, *device);
    EXPECT_TRUE(executor.ok()) << executor.status().ToString();
    if (!executor.ok()) return false;
    const auto frames = static_cast<int32_t>(features.size()) / static_cast<int32_t>(checkpoint.config.input_dim);
    const RowSet rows = RowSet::FromLengths(std::vector<int32_t>{frames});
    const StepInput input{{const_cast<float*>(features.data()), DType::kF32, {frames, checkpoint.config.input_dim}},
                          &rows};
    std::vector<StepOutput> outputs;
    const Status status = (*executor)->Run({&input, 1}, {}, {}, *stream, &outputs);
    EXPECT_TRUE(status.ok()) << status.ToString();
    if (!status.ok()) return false;
    const int blocks = static_cast<int>(checkpoint.config.encoder.num_blocks);
    EXPECT_EQ(outputs.size(), static_cast<size_t>(blocks) + 2);
    for (size_t i = 0; i < outputs.size(); ++i) {
      const std::string what = i == 0                    ? "subsample"
                               : i + 1 == outputs.size() ? "after_norm"
                                                         : fmt::format("block{:02}", i - 1);
      const auto expected = encoder_npz[recording + "." + what].As<float>();
      if (static_cast<int64_t>(expected.size()) != outputs[i].tensor.num_elements()) {
        ADD_FAILURE() << what << " has " << outputs[i].tensor.num_elements() << " elements, not " << expected.size();
        return false;
      }
      const Errors errors = Compare(outputs[i].tensor.as<float>(), expected);
      std::printf("%s\n", Row(recording.substr(0, 20) + "." + what, errors).c_str());
      // Outputs reach a few hundred after the subsampling; 1e-3 on log-probabilities is the contract.
      EXPECT_LT(errors.max_abs, i == 0 ? 2e-3 : 1e-3) << what;
      EXPECT_LT(errors.mean_abs, 1e-4) << what;
    }
    return CheckCtc(module, outputs.back(), *device, *stream, ctc_npz, recording);
  }

  bool CheckCtc(const Module& module, const StepOutput& encoder, Device& device, Stream& stream, const Npz& golden,
                const std::string& recording) {
    auto full = Executor::Create(module.graphs.at("ctc_full"), module.weights, device);
    auto top = Executor::Create(module.graphs.at("ctc"), module.weights, device);
    EXPECT_TRUE(full.ok() && top.ok());
    const StepInput input{encoder.tensor, encoder.rows};
    std::vector<StepOutput> logp, topk;
    EXPECT_TRUE((*full)->Run({&input, 1}, {}, {}, stream, &logp).ok());
    EXPECT_TRUE((*top)->Run({&input, 1}, {{"K", 10}}, {}, stream, &topk).ok());
    if (golden.Has(recording + ".logp")) {
      const Errors errors = Compare(logp[0].tensor.as<float>(), golden[recording + ".logp"].As<float>());
      std::printf("%s\n", Row(recording.substr(0, 20) + ".logp", errors).c_str());
      EXPECT_LT(errors.max_abs, 1e-3);
    }
    const Errors errors = Compare(topk[0].tensor.as<float>(), golden[recording + ".top10_logp"].As<float>());
    EXPECT_LT(errors.max_abs, 1e-3);
    // Ids may only differ where two log-probabilities are equal to the precision of the comparison.
    const auto expected_ids = golden[recording + ".top10_ids"].As<int32_t>();
    const auto expected_logp = golden[recording + ".top10_logp"].As<float>();
    for (size_t i = 0; i < expected_ids.size(); ++i) {
      if (topk[1].tensor.as<int32_t>()[i] == expected_ids[i]) continue;
      const bool near_tie = (i % 10 > 0 && expected_logp[i - 1] - expected_logp[i] < 1e-3) ||
                            (i % 10 < 9 && expected_logp[i] - expected_logp[i + 1] < 1e-3) || i % 10 == 9;
      EXPECT_TRUE(near_tie) << "entry " << i;
    }
    return true;
  }
};

TEST_P(U2GoldenTest, ShippedModel) {
  const std::string golden = testing::SourcePath("tests/golden/shipped");
  for (const char* recording : {"BAC009S0905W0460_n", "BAC009S0914W0321_v"}) {
    CheckModel(testing::SourcePath("models/tiny"), golden, recording, golden);
  }
}

TEST_P(U2GoldenTest, Conformer46M) {
  TING_REQUIRE_SHARED();
  CheckModel(testing::SharedPath("models/aishell"), testing::SharedPath("golden/aishell"), "BAC009S0764W0121",
             testing::SharedPath("golden/u2pp"));
}

TEST_P(U2GoldenTest, UnifiedTwoPass48M) {
  TING_REQUIRE_SHARED();
  CheckModel(testing::SharedPath("models/u2pp"), testing::SharedPath("golden/u2pp"), "BAC009S0764W0121",
             testing::SharedPath("golden/u2pp"));
}

INSTANTIATE_TEST_SUITE_P(Backends, U2GoldenTest,
                         ::testing::Values(Case{"plain", "ref", false}, Case{"optimised", "ref", true},
                                           Case{"plain", "cpu", false}, Case{"optimised", "cpu", true}),
                         [](const auto& info) { return std::string(info.param.name) + "_" + info.param.backend; });

}  // namespace
}  // namespace ting
