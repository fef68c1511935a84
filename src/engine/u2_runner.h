// src/engine/u2_runner.h
// SPDX-License-Identifier: Apache-2.0
//
// U2Runner: the graphs of one model on one device, as the calls that recognition makes. It knows rows and sequences,
// not audio and not text; the searches above it know neither graphs nor devices.
// Each call returns views that stay valid until the next call of the same function.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "decoders/attention_search.h"
#include "decoders/ctc_frames.h"
#include "decoders/token_tree.h"
#include "engine/device_stages.h"
#include "models/u2/u2_model.h"
#include "runtime/executor.h"
#include "ting/status.h"

namespace ting {

enum class DecoderSide { kLeft, kRight };

class U2Runner : public StepScorer {
 public:
  // The model and the device outlive the runner.
  static Result<std::unique_ptr<U2Runner>> Create(const U2Model& model, Device& device, bool profile);

  // features [F, mel] packed as `rows` says, on the host or (then with room for padded rows) in the device's memory;
  // encoder rows of the batch.
  Result<StepOutput> Encode(const float* features, bool on_host, const RowSet& rows, const StepOptions& options);
  // The best `k` symbols of every encoder row, in the device's memory; and the same on the host.
  Result<TopKRows> CtcTopK(const StepOutput& encoder, int k, const StepOptions& options);
  Status CtcTopK(const StepOutput& encoder, int k, const StepOptions& options, const float** logp, const int32_t** ids);
  // The whole matrix [T, V], on the host.
  Result<TensorView> CtcLogProbs(const StepOutput& encoder, const StepOptions& options);

  // Keys and values of all decoder layers for the encoder rows; needed before Score and the search steps.
  Status PrepareDecoder(DecoderSide side, const StepOutput& encoder);
  // Log-probabilities of the tree's targets, in their order: QueueScore leaves them on the device, FetchScores waits
  // for those of the named sides.
  Status QueueScore(DecoderSide side, const TokenTree& tree);
  Result<std::vector<std::vector<float>>> FetchScores(std::span<const DecoderSide> sides);
  // Starts an attention search over at most `max_rows` rows, then extends it step by step (left decoder).
  Status BeginSearch(int64_t max_rows);
  Status Step(const StepRows& rows, int k, std::vector<float>* logp, std::vector<int32_t>* ids) override;

  // Gives back what earlier steps needed, once they are done; what they left on the device goes with it.
  Status ReleaseMemory();

  std::vector<NodeProfile> Profile() const;
  Stream& stream() { return *stream_; }

 private:
  U2Runner(const U2Model& model, Device& device) : model_(model), device_(device) {}
  Result<Executor*> Find(const std::string& graph);
  Status EnsurePools(DecoderSide side, int64_t rows);
  Result<StepOutput> Decode(DecoderSide side, const TreeRows& rows);
  // Outputs where the host can read them: as they are, or copied, when this waits for the device.
  Status Fetch(std::span<StepOutput> outputs);

  // One decoder's state between calls.
  struct Side {
    StepOutput cross, scores;
    std::vector<std::unique_ptr<DeviceBuffer>> pools;  // one a layer, f32 [pool_rows, 2D]
    int64_t pool_rows = 0;
    int layers = 0;
  };

  const U2Model& model_;
  Device& device_;
  std::unique_ptr<Stream> stream_;
  bool profile_ = false;
  std::map<std::string, std::unique_ptr<Executor>>
      executors_;  // created on first use, so that unused ones cost nothing
  Side& SideOf(DecoderSide side) { return side == DecoderSide::kLeft ? left_ : right_; }
  Side left_, right_;
  std::vector<StepOutput> outputs_;
  std::unique_ptr<DeviceBuffer> fetched_;  // outputs on the host, where the device has memory of its own
};

}  // namespace ting
