// src/engine/u2_runner.h
// SPDX-License-Identifier: Apache-2.0
//
// U2Runner: the graphs of one model on one device, as the calls that recognition makes. It knows rows and sequences,
// not audio and not text; the searches above it know neither graphs nor devices.
// Each call returns views that stay valid until the next call of the same function.
#pragma once

#include <map>
#include <memory>
#include <span>
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

// What steps asked for: of encoder and CTC head, and of the attention decoders.
struct RunnerWork {
  WorkTotal encoder, decoder;
};

struct EncodedTopK {
  StepOutput encoder;
  TopKRows top;
};

struct RunnerOptions {
  bool profile = false;     // time every node
  bool count_work = false;  // of every step
};

class U2Runner : public StepScorer {
 public:
  // The model and the device outlive the runner.
  static Result<std::unique_ptr<U2Runner>> Create(const U2Model& model, Device& device, const RunnerOptions& options);

  // Makes every graph ready now; otherwise most are when they are first used.
  Status CreateAll();

  // features [F, mel] packed as `rows` says, on the host or (then with room for padded rows) in the device's memory;
  // encoder rows of the batch.
  Result<StepOutput> Encode(const float* features, bool on_host, const RowSet& rows, const StepOptions& options);
  // The same with the CTC head's best `k` symbols of every row, in one step.
  Result<EncodedTopK> EncodeTopK(const float* features, bool on_host, const RowSet& rows, int k,
                                 const StepOptions& options);
  // The best symbols where the host can read them.
  Status FetchTopK(const TopKRows& top, const float** logp, const int32_t** ids);
  // The whole matrix [T, V], on the host.
  Result<TensorView> CtcLogProbs(const StepOutput& encoder, const StepOptions& options);

  // Log-probabilities of the tree's targets, in their order, from the decoder on the encoder's rows, in one step:
  // QueueScore leaves them on the device, FetchScores waits for those of the named sides.
  Status QueueScore(DecoderSide side, const StepOutput& encoder, const TokenTree& tree);
  Result<std::vector<std::vector<float>>> FetchScores(std::span<const DecoderSide> sides);
  // Starts an attention search of the left decoder on the encoder's rows, over at most `max_rows` rows, then extends it
  // step by step.
  Status BeginSearch(const StepOutput& encoder, int64_t max_rows);
  Status Step(const StepRows& rows, int k, std::vector<float>* logp, std::vector<int32_t>* ids) override;

  // Gives back what earlier steps needed, once they are done; what they left on the device goes with it.
  Status ReleaseMemory();

  std::vector<NodeProfile> Profile() const;
  // From now on; and of all steps since.
  void EnableWorkCount();
  RunnerWork work() const;
  // Of every graph of the model, used or not.
  Result<std::vector<NodeDispatch>> Dispatch() const;
  Stream& stream() { return *stream_; }

 private:
  U2Runner(const U2Model& model, Device& device) : model_(model), device_(device) {}
  Result<Executor*> Find(const std::string& graph);
  // A graph of the model, or one that joins several which run one after the other: encoder_ctc, rescore_left, …
  Result<Graph> GraphOf(const std::string& name) const;
  Graph StoredForDevice(const Graph& graph) const;
  StepInput FeaturesInput(const float* features, bool on_host, const RowSet& rows) const;
  Status EnsurePools(DecoderSide side, int64_t rows);
  void AppendPools(DecoderSide side, std::vector<StepInput>& inputs) const;
  // Outputs where the host can read them: as they are, or copied, when this waits for the device.
  Status Fetch(std::span<StepOutput> outputs);

  // One decoder's state between calls.
  struct Side {
    StepOutput cross;                                  // of an attention search
    StepOutput scores;                                 // that were queued last
    std::vector<std::unique_ptr<DeviceBuffer>> pools;  // one a layer, f32 [pool_rows, 2D]
    int64_t pool_rows = 0;
    int layers = 0;
  };
  Side& SideOf(DecoderSide side) { return side == DecoderSide::kLeft ? left_ : right_; }
  const Side& SideOf(DecoderSide side) const { return side == DecoderSide::kLeft ? left_ : right_; }

  const U2Model& model_;
  Device& device_;
  std::unique_ptr<Stream> stream_;
  RunnerOptions options_;
  std::map<std::string, std::unique_ptr<Executor>>
      executors_;  // created on first use, so that unused ones cost nothing
  Side left_, right_;
  std::vector<StepOutput> outputs_;
  std::unique_ptr<DeviceBuffer> fetched_;  // outputs on the host, where the device has memory of its own
};

}  // namespace ting
