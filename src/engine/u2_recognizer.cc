// src/engine/u2_recognizer.cc
// SPDX-License-Identifier: Apache-2.0
#include "engine/u2_recognizer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <new>

#include "base/status_macros.h"
#include "decoders/ctc_greedy.h"
#include "decoders/rescoring.h"
#include "engine/tuning.h"
#include "graph/printer.h"
#include "text/detokenize.h"
#include "text/word_times.h"

namespace ting {
namespace {

constexpr int kMaxBeam = 256;

// Adds the time from its construction to its end to a stage.
class StageTimer {
 public:
  explicit StageTimer(double& total_ms) : total_ms_(total_ms), start_(Clock::now()) {}
  ~StageTimer() { total_ms_ += std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& total_ms_;
  Clock::time_point start_;
};

StepOptions StepOptionsOf(const DecodeOptions& options) {
  return {options.chunk_frames, options.num_left_chunks, options.blank_penalty};
}

TokenHypothesis HypothesisOf(GreedyResult best) {
  return {std::move(best.tokens), std::move(best.times), std::move(best.confidences), best.score, best.score, 0,
          std::exp(best.score)};
}
TokenHypothesis HypothesisOf(PrefixHypothesis prefix) {
  return {std::move(prefix.tokens), std::move(prefix.times), {}, prefix.score, prefix.score, 0, std::exp(prefix.score)};
}

// The tokens of each hypothesis of each sequence, as the tree builder takes them.
std::vector<TokenLists> TokensOf(const std::vector<std::vector<TokenHypothesis>>& nbest) {
  std::vector<TokenLists> tokens(nbest.size());
  for (size_t b = 0; b < nbest.size(); ++b) {
    for (const TokenHypothesis& hypothesis : nbest[b]) tokens[b].emplace_back(hypothesis.tokens);
  }
  return tokens;
}

}  // namespace

namespace {

// A GPU's recogniser needs the CPU to pack samples and to write text; spinning threads would be in each other's way.
constexpr int kGpuThreads = 2;

int NumThreads(const RecognizerOptions& options) {
  const bool gpu = options.device.starts_with("cuda");
  return gpu && options.num_threads == 0 ? kGpuThreads : options.num_threads;
}

}  // namespace

Status CheckThreads(const RecognizerOptions& options) {
  if (options.num_threads >= 0 && options.num_threads <= 1024) return Status();
  return InvalidArgument("{} threads; use 1 to 1024, or 0 for one a core", options.num_threads);
}

Result<std::unique_ptr<U2Recognizer>> U2Recognizer::Create(std::shared_ptr<const U2Model> model,
                                                           const RecognizerOptions& options) {
  return Create(std::move(model), nullptr, options);
}

Result<std::unique_ptr<U2Recognizer>> U2Recognizer::Create(std::shared_ptr<const U2Model> model,
                                                           std::shared_ptr<Device> device,
                                                           const RecognizerOptions& options) {
  TING_RETURN_IF_ERROR(CheckThreads(options));
  const ModelInfo& info = model->info;
  const FbankOptions features{info.sample_rate_hz, info.num_mel_bins, static_cast<float>(model->frame_length_ms),
                              static_cast<float>(info.frame_shift_ms)};
  TING_ASSIGN_OR_RETURN(Fbank fbank, Fbank::Create(features));
  std::unique_ptr<U2Recognizer> recognizer(
      new U2Recognizer(std::move(model), options, std::move(fbank), NumThreads(options)));
  if (device == nullptr) {
    TING_ASSIGN_OR_RETURN(device, CreateDevice(options, info.precision, recognizer->pool_));
    LoadTuning(*recognizer->model_, options, *device);
  }
  recognizer->device_ = std::move(device);
  TING_ASSIGN_OR_RETURN(recognizer->runner_, U2Runner::Create(*recognizer->model_, *recognizer->device_,
                                                              {options.profile, options.count_work}));
  TING_ASSIGN_OR_RETURN(recognizer->stages_, CreateDeviceStages(*recognizer->device_, features));
  TING_ASSIGN_OR_RETURN(recognizer->encoded_, recognizer->device_->CreateEvent());
  return recognizer;
}

// A GPU is shared, with the weights in its memory; the CPU's device is no more than a thread pool.
Result<std::unique_ptr<Recognizer>> U2Recognizer::Clone() {
  TING_ASSIGN_OR_RETURN(auto clone, Create(model_, device_->uses_host_memory() ? nullptr : device_, options_));
  return std::unique_ptr<Recognizer>(std::move(clone));
}

Result<DecodeOptions> U2Recognizer::Resolve(const DecodeOptions& options) const {
  DecodeOptions resolved = options;
  const ModelInfo& model = model_->info;
  if (options.beam < 1 || options.beam > kMaxBeam)
    return InvalidArgument("a beam of {}; use 1 to {}", options.beam, kMaxBeam);
  if (options.nbest < 1 || options.nbest > options.beam) {
    return InvalidArgument("{} best hypotheses from a beam of {}; use 1 to {}", options.nbest, options.beam,
                           options.beam);
  }
  const bool needs_decoder = options.mode == DecodeMode::kAttention || options.mode == DecodeMode::kRescoring;
  if (needs_decoder && model.left_decoder_layers == 0) {
    return FailedPrecondition("the model has no attention decoder; use mode greedy or prefix_beam");
  }
  resolved.ctc_weight = options.ctc_weight.value_or(static_cast<float>(model_->default_ctc_weight));
  resolved.reverse_weight = options.reverse_weight.value_or(static_cast<float>(model_->default_reverse_weight));
  const float reverse = *resolved.reverse_weight;
  if (!std::isfinite(*resolved.ctc_weight) || !(reverse >= 0 && reverse <= 1)) {
    return InvalidArgument("ctc_weight {} and reverse_weight {}; the second must lie in [0, 1]", *resolved.ctc_weight,
                           reverse);
  }
  if (reverse > 0 && model.right_decoder_layers == 0) {
    return FailedPrecondition("the model has no right-to-left decoder; leave reverse_weight at 0");
  }
  if (options.chunk_frames < 0)
    return InvalidArgument("chunks of {} frames; use 0 for full context", options.chunk_frames);
  if (options.chunk_frames > 0 && !model.streaming) {
    return FailedPrecondition("the model was not trained for chunks ({}); leave chunk_frames at 0", model.family);
  }
  if (!std::isfinite(options.blank_penalty) || !std::isfinite(options.length_penalty)) {
    return InvalidArgument("the penalties must be finite numbers");
  }
  if (options.blank_skip && !(*options.blank_skip > 0 && *options.blank_skip < 1)) {
    return InvalidArgument("blank_skip {}; use a probability between 0 and 1", *options.blank_skip);
  }
  return resolved;
}

std::vector<RecognitionResult> U2Recognizer::Recognize(std::span<const Audio> batch, const DecodeOptions& options,
                                                       StageTimes* times) {
  std::vector<RecognitionResult> results(batch.size());
  const auto fail = [&](const Status& status) {
    for (RecognitionResult& result : results) {
      if (result.status.ok()) result.status = status;
    }
  };
  try {
    StageTimes step;
    RunnerWork work = runner_->work();
    const auto resolved = Resolve(options);
    if (!resolved.ok()) return fail(resolved.status()), results;
    NBestLists nbest;
    Status status = RunStep(batch, *resolved, step, results, nbest);
    if (status.code() == StatusCode::kResourceExhausted) {
      if (nbest.size() > 1) return RecognizeHalves(batch, options, times);
      work = runner_->work();
      status = RunStep(batch, *resolved, step, results, nbest);  // alone in the memory that other steps have held
    }
    if (!status.ok()) return fail(CauseOf(status)), results;
    {
      const StageTimer timer(step.text_ms);
      for (size_t i = 0; i < nbest.size(); ++i) {
        RecognitionResult& result = results[features_.utterances()[i]];
        result.status = WriteText(nbest[i], resolved->nbest, result);
      }
    }
    if (options_.count_work) AddLeastTimes(batch, *resolved, work, step);
    if (times != nullptr) *times += step;
  } catch (const std::bad_alloc&) {
    fail(ResourceExhausted("out of memory; use a smaller batch or shorter audio"));
  }
  return results;
}

// A library between us and a device that is lost says no more than that it failed.
Status U2Recognizer::CauseOf(const Status& status) {
  if (status.code() != StatusCode::kInternal) return status;
  const Status device = runner_->stream().Synchronize();
  return device.code() == StatusCode::kUnavailable ? device : status;
}

std::vector<RecognitionResult> U2Recognizer::RecognizeHalves(std::span<const Audio> batch, const DecodeOptions& options,
                                                             StageTimes* times) {
  const size_t half = batch.size() / 2;
  std::vector<RecognitionResult> results = Recognize(batch.first(half), options, times);
  std::vector<RecognitionResult> rest = Recognize(batch.subspan(half), options, times);
  std::move(rest.begin(), rest.end(), std::back_inserter(results));
  return results;
}

Status U2Recognizer::ComputeFeatures(std::span<const Audio> batch, std::vector<RecognitionResult>& results) {
  const int min_frames = model_->info.min_feature_frames;
  if (!stages_) {
    features_.Compute(batch, fbank_, min_frames, pool_, results);
    step_features_ = features_.features();
    return Status();
  }
  features_.Admit(batch, fbank_, min_frames, pool_, results);
  std::vector<std::span<const float>> samples;
  for (const int i : features_.utterances()) samples.emplace_back(batch[i].samples);
  if (samples.empty()) return Status();
  TING_ASSIGN_OR_RETURN(step_features_, stages_->Features(samples, features_.rows(), pool_, runner_->stream()));
  return Status();
}

void U2Recognizer::AddLeastTimes(std::span<const Audio> batch, const DecodeOptions& options, const RunnerWork& before,
                                 StageTimes& times) const {
  const auto peaks = device_->peaks();
  if (!peaks) return;
  const RunnerWork after = runner_->work();
  times.encoder_least_ms += (after.encoder.least_s - before.encoder.least_s) * 1e3;
  times.decoder_least_ms += (after.decoder.least_s - before.decoder.least_s) * 1e3;
  if (!stages_ || features_.utterances().empty()) return;
  int64_t samples = 0;
  for (const int i : features_.utterances()) samples += static_cast<int64_t>(batch[i].samples.size());
  const ModelInfo& model = model_->info;
  const KernelWork features = FeaturesWork(samples, features_.rows().num_rows(), model.num_mel_bins);
  times.frontend_least_ms += LeastSeconds(features, *peaks) * 1e3;
  if (options.mode == DecodeMode::kAttention) return;
  const int64_t rows = features_.rows().num_rows() / model.subsampling_rate;
  times.search_least_ms += LeastSeconds(SearchWork(rows, options.beam), *peaks) * 1e3;
}

Status U2Recognizer::RunStep(std::span<const Audio> batch, const DecodeOptions& options, StageTimes& times,
                             std::vector<RecognitionResult>& results, NBestLists& nbest) {
  Status status = ComputeStep(batch, options, times, results, nbest);
  if (status.code() != StatusCode::kResourceExhausted || IsTooLarge()) return status;
  too_many_rows_ = std::min<int64_t>(too_many_rows_, features_.rows().num_rows());
  TING_RETURN_IF_ERROR(runner_->ReleaseMemory());
  if (stages_) stages_->ReleaseMemory();
  return status;
}

bool U2Recognizer::IsTooLarge() const {
  return features_.utterances().size() > 1 && features_.rows().num_rows() >= too_many_rows_;
}

Status U2Recognizer::ComputeStep(std::span<const Audio> batch, const DecodeOptions& options, StageTimes& times,
                                 std::vector<RecognitionResult>& results, NBestLists& nbest) {
  {
    const StageTimer timer(times.frontend_ms);
    const Status status = ComputeFeatures(batch, results);
    nbest.assign(features_.utterances().size(), {});
    TING_RETURN_IF_ERROR(status);
  }
  if (nbest.empty()) return Status();
  if (IsTooLarge()) return ResourceExhausted("{} frames did not fit before", features_.rows().num_rows());
  const bool on_host = stages_ == nullptr;
  if (options.mode == DecodeMode::kAttention) {
    StepOutput encoder;
    {
      const StageTimer timer(times.encoder_ms);
      TING_ASSIGN_OR_RETURN(encoder,
                            runner_->Encode(step_features_, on_host, features_.rows(), StepOptionsOf(options)));
    }
    const StageTimer timer(times.decoder_ms);
    return SearchAttention(encoder, options, nbest);
  }
  EncodedTopK encoded;
  {
    const StageTimer timer(times.encoder_ms);
    TING_ASSIGN_OR_RETURN(encoded, runner_->EncodeTopK(step_features_, on_host, features_.rows(), SymbolsOf(options),
                                                       StepOptionsOf(options)));
  }
  TING_RETURN_IF_ERROR(SearchCtc(encoded.top, options, times, nbest));
  if (options.mode != DecodeMode::kRescoring) return Status();
  const StageTimer timer(times.decoder_ms);
  return Rescore(encoded.encoder, options, nbest);
}

bool U2Recognizer::SearchesOnDevice(const DecodeOptions& options) const {
  return stages_ && options.beam <= stages_->max_beam();
}

int U2Recognizer::SymbolsOf(const DecodeOptions& options) const {
  return options.mode == DecodeMode::kGreedy ? 1 : std::min(options.beam, model_->info.vocab_size);
}

Status U2Recognizer::SearchCtc(const TopKRows& top, const DecodeOptions& options, StageTimes& times,
                               NBestLists& nbest) {
  if (SearchesOnDevice(options)) return SearchOnDevice(top, options, times, nbest);
  const bool greedy = options.mode == DecodeMode::kGreedy;
  const auto k = static_cast<int>(top.logp.tensor.shape[1]);
  const float* logp = nullptr;
  const int32_t* ids = nullptr;
  {
    const StageTimer timer(times.encoder_ms);
    TING_RETURN_IF_ERROR(runner_->FetchTopK(top, &logp, &ids));
  }
  const StageTimer timer(times.search_ms);
  if (!greedy) PrepareSearches(SearchOptionsOf(options, k));
  std::vector<Status> statuses(nbest.size());
  const RowSet& rows = *top.logp.rows;
  pool_.ParallelFor(static_cast<int64_t>(nbest.size()), [&](int64_t b, int thread) {
    const int64_t first = rows.begin(static_cast<int>(b));
    const CtcFrames frames{logp + first * k, ids + first * k, rows.length(static_cast<int>(b)), k};
    if (greedy) {
      Greedy(frames, nbest[b]);
    } else {
      statuses[b] = PrefixBeam(frames, searches_[thread], nbest[b]);
    }
  });
  for (const Status& status : statuses) TING_RETURN_IF_ERROR(status);
  return Status();
}

// The search is queued behind the encoder before anything is waited for. That the encoder is waited for by itself is
// for the times alone, and costs the device nothing.
Status U2Recognizer::SearchOnDevice(const TopKRows& top, const DecodeOptions& options, StageTimes& times,
                                    NBestLists& nbest) {
  const bool greedy = options.mode == DecodeMode::kGreedy;
  {
    const StageTimer timer(times.encoder_ms);
    Stream& stream = runner_->stream();
    TING_RETURN_IF_ERROR(encoded_->Record(stream));
    const auto k = static_cast<int>(top.logp.tensor.shape[1]);
    TING_RETURN_IF_ERROR(greedy ? stages_->QueueGreedy(top, model_->info.blank_id, stream)
                                : stages_->QueuePrefixBeam(top, SearchOptionsOf(options, k), stream));
    TING_RETURN_IF_ERROR(encoded_->Wait());
  }
  const StageTimer timer(times.search_ms);
  const auto num_sequences = static_cast<int>(nbest.size());
  if (greedy) {
    TING_ASSIGN_OR_RETURN(auto found, stages_->GreedyResults(num_sequences));
    for (size_t b = 0; b < nbest.size(); ++b) nbest[b].push_back(HypothesisOf(std::move(found[b])));
    return Status();
  }
  TING_ASSIGN_OR_RETURN(auto found, stages_->PrefixResults(num_sequences));
  for (size_t b = 0; b < nbest.size(); ++b) {
    for (PrefixHypothesis& prefix : found[b]) nbest[b].push_back(HypothesisOf(std::move(prefix)));
  }
  return Status();
}

PrefixBeamOptions U2Recognizer::SearchOptionsOf(const DecodeOptions& options, int k) const {
  PrefixBeamOptions search{.beam = options.beam, .token_beam = k, .blank_id = model_->info.blank_id};
  if (options.blank_skip) search.blank_skip_logp = std::log(*options.blank_skip);
  return search;
}

void U2Recognizer::PrepareSearches(const PrefixBeamOptions& options) {
  if (options == search_options_ && !searches_.empty()) return;  // their arenas have grown already
  search_options_ = options;
  searches_.assign(pool_.num_threads(), CtcPrefixBeam(options));
}

void U2Recognizer::Greedy(const CtcFrames& frames, std::vector<TokenHypothesis>& nbest) const {
  nbest.push_back(HypothesisOf(CtcGreedySearch(frames, model_->info.blank_id)));
}

Status U2Recognizer::PrefixBeam(const CtcFrames& frames, CtcPrefixBeam& search, std::vector<TokenHypothesis>& nbest) {
  search.Reset();
  TING_RETURN_IF_ERROR(search.AcceptFrames(frames));
  for (PrefixHypothesis& prefix : search.NBest()) nbest.push_back(HypothesisOf(std::move(prefix)));
  return Status();
}

Status U2Recognizer::Rescore(const StepOutput& encoder, const DecodeOptions& options, NBestLists& nbest) {
  const std::vector<TokenLists> tokens = TokensOf(nbest);
  const int32_t sos = model_->info.sos_id, eos = model_->info.eos_id;
  std::vector<DecoderSide> sides{DecoderSide::kLeft};
  const TokenTree left = BuildTokenTree(tokens, TokenDirection::kLeftToRight, sos, eos);
  TING_RETURN_IF_ERROR(runner_->QueueScore(DecoderSide::kLeft, encoder, left));
  TokenTree right;
  if (*options.reverse_weight > 0) {  // its tree is built while the device scores the other
    right = BuildTokenTree(tokens, TokenDirection::kRightToLeft, sos, eos);
    TING_RETURN_IF_ERROR(runner_->QueueScore(DecoderSide::kRight, encoder, right));
    sides.push_back(DecoderSide::kRight);
  }
  TING_ASSIGN_OR_RETURN(std::vector<std::vector<float>> logp, runner_->FetchScores(sides));
  logp.resize(2);
  const RescoringWeights weights{*options.ctc_weight, *options.reverse_weight};
  for (int b = 0; b < static_cast<int>(nbest.size()); ++b) {
    std::vector<double> ctc_scores;
    for (const TokenHypothesis& hypothesis : nbest[b]) ctc_scores.push_back(hypothesis.ctc_score);
    TING_ASSIGN_OR_RETURN(auto rescored, ting::Rescore(b, ctc_scores, {&left, logp[0]}, {&right, logp[1]}, weights));
    std::vector<TokenHypothesis> ordered;
    for (RescoredHypothesis& scored : rescored) {
      TokenHypothesis hypothesis = std::move(nbest[b][scored.index]);
      hypothesis.score = scored.score;
      hypothesis.attention_score = scored.attention_score;
      hypothesis.confidence = scored.confidence;
      hypothesis.token_confidences = std::move(scored.token_confidences);
      ordered.push_back(std::move(hypothesis));
    }
    nbest[b] = std::move(ordered);
  }
  return Status();
}

Status U2Recognizer::SearchAttention(const StepOutput& encoder, const DecodeOptions& options, NBestLists& nbest) {
  std::vector<int32_t> frames;
  for (int b = 0; b < encoder.rows->num_sequences(); ++b) frames.push_back(encoder.rows->length(b));
  TING_RETURN_IF_ERROR(runner_->BeginSearch(encoder, MaxSearchRows(frames, options.beam)));
  const ModelInfo& model = model_->info;
  TING_ASSIGN_OR_RETURN(
      auto found,
      AttentionSearch(frames, {options.beam, options.length_penalty, model.sos_id, model.eos_id, model.vocab_size},
                      runner_.get()));
  for (size_t b = 0; b < found.size(); ++b) {
    for (AttentionHypothesis& hypothesis : found[b]) {
      const double length = static_cast<double>(hypothesis.tokens.size()) + 1;  // eos is predicted too
      const double confidence = std::exp(hypothesis.decoder_score / length);
      nbest[b].push_back(
          {std::move(hypothesis.tokens), {}, {}, hypothesis.score, 0, hypothesis.decoder_score, confidence});
    }
  }
  return Status();
}

Status U2Recognizer::WriteText(const std::vector<TokenHypothesis>& nbest, int limit, RecognitionResult& result) const {
  const TokenTimeOptions times{model_->info.frame_shift_ms * model_->info.subsampling_rate};
  for (const TokenHypothesis& source : std::span(nbest).first(std::min<size_t>(nbest.size(), limit))) {
    Hypothesis hypothesis;
    TING_ASSIGN_OR_RETURN(hypothesis.text, Detokenize(model_->tokens, source.tokens));
    TING_ASSIGN_OR_RETURN(hypothesis.tokens, MakeTokenSpans(model_->tokens, source.tokens, source.frames,
                                                            source.token_confidences, times));
    hypothesis.words = MakeWordSpans(hypothesis.tokens);
    hypothesis.score = source.score;
    hypothesis.ctc_score = source.ctc_score;
    hypothesis.attention_score = source.attention_score;
    hypothesis.confidence = source.confidence;
    result.nbest.push_back(std::move(hypothesis));
  }
  return Status();
}

Result<std::vector<float>> U2Recognizer::Features(const Audio& audio) {
  std::vector<RecognitionResult> results(1);
  FeatureBatch features;
  features.Compute({&audio, 1}, fbank_, model_->info.min_feature_frames, pool_, results);
  TING_RETURN_IF_ERROR(results[0].status);
  const float* data = features.features();
  return std::vector<float>(data, data + static_cast<size_t>(features.rows().num_rows()) * model_->info.num_mel_bins);
}

Result<std::vector<float>> U2Recognizer::CtcLogProbs(std::span<const float> features, const DecodeOptions& options) {
  const auto bins = static_cast<size_t>(model_->info.num_mel_bins);
  const size_t frames = features.size() / bins;
  if (features.size() % bins != 0 || frames < static_cast<size_t>(model_->info.min_feature_frames)) {
    return InvalidArgument("{} numbers are no features of {} bins and at least {} frames", features.size(), bins,
                           model_->info.min_feature_frames);
  }
  TING_ASSIGN_OR_RETURN(const DecodeOptions resolved, Resolve(options));
  const RowSet rows = RowSet::FromLengths(std::vector<int32_t>{static_cast<int32_t>(frames)});
  TING_ASSIGN_OR_RETURN(const StepOutput encoder,
                        runner_->Encode(features.data(), /*on_host=*/true, rows, StepOptionsOf(resolved)));
  TING_ASSIGN_OR_RETURN(const TensorView logp, runner_->CtcLogProbs(encoder, StepOptionsOf(resolved)));
  return std::vector<float>(logp.as<float>(), logp.as<float>() + logp.num_elements());
}

std::string U2Recognizer::GraphText() const {
  std::string text;
  for (const auto& [name, graph] : model_->module.graphs) text += PrintGraph(graph) + "\n";
  return text;
}

Result<std::unique_ptr<Recognizer>> Recognizer::Load(const std::string& path, const RecognizerOptions& options) {
  try {
    TING_ASSIGN_OR_RETURN(U2Model model, LoadU2ModelFor(options, path));
    TING_ASSIGN_OR_RETURN(auto recognizer,
                          U2Recognizer::Create(std::make_shared<const U2Model>(std::move(model)), options));
    return std::unique_ptr<Recognizer>(std::move(recognizer));
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while loading {}", path);
  }
}

Result<ModelInfo> BuildEngine(const std::string& model_dir, const std::string& engine_path, Precision precision) {
  try {
    TING_ASSIGN_OR_RETURN(const U2Model model, LoadU2Model(model_dir, precision));
    TING_RETURN_IF_ERROR(SaveU2Model(model, engine_path));
    return model.info;
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while building {}", engine_path);
  }
}

}  // namespace ting
