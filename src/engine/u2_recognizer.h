// src/engine/u2_recognizer.h
// SPDX-License-Identifier: Apache-2.0
//
// The recogniser behind ting::Recognizer: features, encoder, CTC search and attention decoder for a batch of
// utterances in one step, then text. It decides what runs in which mode; the runner computes, the decoders search,
// src/text writes.
#pragma once

#include <limits>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "decoders/ctc_prefix_beam.h"
#include "engine/feature_batch.h"
#include "engine/u2_runner.h"
#include "frontend/fbank.h"
#include "models/u2/u2_model.h"
#include "ting/recognizer.h"

namespace ting {

// A hypothesis before it is text.
struct TokenHypothesis {
  std::vector<int32_t> tokens;
  std::vector<int32_t> frames;            // peak frame of each token; empty: unknown (attention mode)
  std::vector<double> token_confidences;  // empty: unknown
  double score = 0, ctc_score = 0, attention_score = 0, confidence = 0;
};

// Whether there can be so many threads.
Status CheckThreads(const RecognizerOptions& options);

class U2Recognizer : public Recognizer {
 public:
  static Result<std::unique_ptr<U2Recognizer>> Create(std::shared_ptr<const U2Model> model,
                                                      const RecognizerOptions& options);
  // On a device that exists: null makes one.
  static Result<std::unique_ptr<U2Recognizer>> Create(std::shared_ptr<const U2Model> model,
                                                      std::shared_ptr<Device> device, const RecognizerOptions& options);

  int num_threads() const { return pool_.num_threads(); }
  const ModelInfo& info() const override { return model_->info; }
  Result<std::unique_ptr<Recognizer>> Clone() override;
  std::vector<RecognitionResult> Recognize(std::span<const Audio> batch, const DecodeOptions& options,
                                           StageTimes* times) override;
  Result<std::vector<float>> Features(const Audio& audio) override;
  Result<std::vector<float>> CtcLogProbs(std::span<const float> features, const DecodeOptions& options) override;
  std::vector<NodeProfile> Profile() const override { return runner_->Profile(); }
  Result<std::vector<NodeDispatch>> Dispatch() const override { return runner_->Dispatch(); }
  std::string GraphText() const override;

 private:
  // n-best lists of every sequence of the step, best first.
  using NBestLists = std::vector<std::vector<TokenHypothesis>>;

  U2Recognizer(std::shared_ptr<const U2Model> model, const RecognizerOptions& options, Fbank fbank, int num_threads)
      : model_(std::move(model)), options_(options), pool_(num_threads), fbank_(std::move(fbank)) {}
  // What a step that does not fit into the device's memory becomes.
  std::vector<RecognitionResult> RecognizeHalves(std::span<const Audio> batch, const DecodeOptions& options,
                                                 StageTimes* times);
  Status CauseOf(const Status& status);
  Status ComputeFeatures(std::span<const Audio> batch, std::vector<RecognitionResult>& results);
  // The least times of the step that has run since `before`.
  void AddLeastTimes(std::span<const Audio> batch, const DecodeOptions& options, const RunnerWork& before,
                     StageTimes& times) const;

  // Options with the model's defaults filled in, or why they make no sense for it.
  Result<DecodeOptions> Resolve(const DecodeOptions& options) const;
  // `nbest` has as many lists as there are utterances in the step, also when it fails. A step that does not fit into
  // the device's memory gives back all that steps hold, so that the next, smaller one has it for itself, and its size
  // is not tried again.
  Status RunStep(std::span<const Audio> batch, const DecodeOptions& options, StageTimes& times,
                 std::vector<RecognitionResult>& results, NBestLists& nbest);
  bool IsTooLarge() const;
  Status ComputeStep(std::span<const Audio> batch, const DecodeOptions& options, StageTimes& times,
                     std::vector<RecognitionResult>& results, NBestLists& nbest);
  bool SearchesOnDevice(const DecodeOptions& options) const;
  int SymbolsOf(const DecodeOptions& options) const;  // of a frame, for the search
  Status SearchCtc(const TopKRows& top, const DecodeOptions& options, StageTimes& times, NBestLists& nbest);
  Status SearchOnDevice(const TopKRows& top, const DecodeOptions& options, StageTimes& times, NBestLists& nbest);
  PrefixBeamOptions SearchOptionsOf(const DecodeOptions& options, int k) const;  // of k symbols a frame
  void PrepareSearches(const PrefixBeamOptions& options);
  void Greedy(const CtcFrames& frames, std::vector<TokenHypothesis>& nbest) const;
  static Status PrefixBeam(const CtcFrames& frames, CtcPrefixBeam& search, std::vector<TokenHypothesis>& nbest);
  Status Rescore(const StepOutput& encoder, const DecodeOptions& options, NBestLists& nbest);
  Status SearchAttention(const StepOutput& encoder, const DecodeOptions& options, NBestLists& nbest);
  Status WriteText(const std::vector<TokenHypothesis>& nbest, int limit, RecognitionResult& result) const;

  std::shared_ptr<const U2Model> model_;
  RecognizerOptions options_;
  ThreadPool pool_;
  std::shared_ptr<Device> device_;
  std::unique_ptr<U2Runner> runner_;
  std::unique_ptr<DeviceStages> stages_;                         // null: features and searches on the CPU
  std::unique_ptr<Event> encoded_;                               // behind the encoder and the CTC head of the step
  int64_t too_many_rows_ = std::numeric_limits<int64_t>::max();  // feature frames of several utterances
  const float* step_features_ = nullptr;  // of the step, in the device's memory where stages_ is set
  Fbank fbank_;
  FeatureBatch features_;
  PrefixBeamOptions search_options_;
  std::vector<CtcPrefixBeam> searches_;  // one a thread, so that their memory is kept
};

}  // namespace ting
