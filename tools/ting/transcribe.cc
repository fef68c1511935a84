// tools/ting/transcribe.cc
// SPDX-License-Identifier: Apache-2.0
//
// `ting transcribe`: recordings in, text out, in the order of the inputs. A recording that cannot be read or
// recognised costs one line on standard error, and the others go on.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>

#include "base/status_macros.h"
#include "tools/ting/audio_reader.h"
#include "tools/ting/command.h"
#include "tools/ting/model_options.h"
#include "tools/ting/progress.h"
#include "tools/ting/result_sink.h"

namespace ting::tool {
namespace {

struct TranscribeOptions {
  ModelOptions model;
  DecodeOptions decode;
  ReadAudioOptions audio;
  SinkOptions sink;
  std::vector<std::string> inputs;
  BatchLimits limits{.seconds = BatchLimits::kDefaultSeconds};
  bool quiet = false;
  Verbose verbose;
};

// One run: what is shared by its steps.
class Run {
 public:
  Run(const TranscribeOptions& options, const Services& services, RecognizerPool& pool, ResultSink& sink)
      : options_(options),
        services_(services),
        pool_(pool),
        sink_(sink),
        bar_(services.err_is_terminal && !options.quiet ? services.err : nullptr) {}
  // The lanes must not outlive the audio that they read.
  ~Run() {
    pool_.CancelWaiting();
    for (const Batch& batch : under_way_) Await(batch);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // `inputs` are those that are not done yet.
  Status Transcribe(const std::vector<Input>& inputs) {
    totals_.num_inputs = inputs.size();
    ReadAudioOptions audio = options_.audio;
    audio.sample_rate_hz = pool_.info().sample_rate_hz;
    AudioReader reader(inputs, [&](const Input& input) { return ReadInput(services_, input, audio); },
                       {.ahead = 2 * options_.limits.recordings + 2, .num_threads = NumReaders()});
    start_ = std::chrono::steady_clock::now();
    bool more = true;
    while (more || !under_way_.empty()) {
      if (services_.interrupted()) pool_.CancelWaiting(), more = false;
      if (more && !FirstIsDue()) {
        more = SubmitNext(reader);
        continue;
      }
      if (under_way_.empty()) break;
      TING_ASSIGN_OR_RETURN(const bool written, WriteFirst(inputs));
      if (!written) break;
    }
    Measure();
    return {};
  }

  RunTotals& totals() { return totals_; }

 private:
  // On its way through the pool.
  struct Batch {
    std::vector<AudioReader::Item> items;
    std::vector<Audio> audio;             // of the items that could be read
    std::future<RecognizedBatch> answer;  // none where there is no audio
  };

  static void Await(const Batch& batch) {
    if (batch.answer.valid()) batch.answer.wait();
  }
  // One reader a few cores where recognition needs the cores, too: decoding is far cheaper.
  int NumReaders() const {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    return 1 + (IsGpu(options_.model) ? cores / 2 : cores / 8);
  }
  // Whether the first batch comes before another one is submitted.
  bool FirstIsDue() const {
    if (under_way_.size() >= static_cast<size_t>(pool_.capacity())) return true;
    if (under_way_.empty()) return false;
    const std::future<RecognizedBatch>& answer = under_way_.front().answer;
    return !answer.valid() || answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }

  // False: there is none.
  bool SubmitNext(AudioReader& reader) {
    const double waited_ms = reader.waited_ms();
    std::vector<AudioReader::Item> items = NextBatch(reader);
    if (under_way_.empty()) totals_.waited_ms += reader.waited_ms() - waited_ms;
    if (items.empty()) return false;
    Batch& batch = under_way_.emplace_back();
    batch.items = std::move(items);
    for (AudioReader::Item& item : batch.items) {
      if (item.audio.ok()) batch.audio.push_back(std::move(*item.audio));
    }
    if (!batch.audio.empty()) batch.answer = pool_.Submit(batch.audio, options_.decode);
    return true;
  }

  std::vector<AudioReader::Item> NextBatch(AudioReader& reader) {
    std::vector<AudioReader::Item> batch;
    double seconds = 0;
    const BatchLimits limits = NextLimits();
    while (batch.size() < static_cast<size_t>(limits.recordings)) {
      if (!next_) next_ = reader.Next();
      if (!next_) break;
      seconds += next_->audio.ok() ? next_->audio->seconds() : 0;
      if (!batch.empty() && seconds > limits.seconds) break;
      batch.push_back(std::move(*next_));
      next_.reset();
    }
    num_taken_ += batch.size();
    return batch;
  }

  // On a CPU the lanes share a batch as they share the threads, so that more of them need no more memory; a small batch
  // is hardly slower a recording than a large one there. None takes more than half of its share of what is left, so
  // that all end together although recordings differ in length and cores in speed.
  BatchLimits NextLimits() const {
    BatchLimits limits = options_.limits;
    const int lanes = pool_.num_lanes();
    if (lanes == 1 || IsGpu(options_.model)) return limits;
    const auto shares = [](size_t count, int parts) { return static_cast<int>((count + parts - 1) / parts); };
    const int half_share = shares(totals_.num_inputs - num_taken_, 2 * lanes);
    limits.recordings = std::clamp(half_share, 1, shares(limits.recordings, lanes));
    limits.seconds /= lanes;
    return limits;
  }

  // False: the batch was cancelled.
  Result<bool> WriteFirst(const std::vector<Input>& inputs) {
    Batch& batch = under_way_.front();
    RecognizedBatch answer;
    if (batch.answer.valid()) answer = batch.answer.get();
    TellLosses();
    if (answer.cancelled) return false;
    totals_.stages += answer.stages;
    Measure();
    auto result = answer.results.begin();
    for (const AudioReader::Item& item : batch.items) {
      const Input& input = inputs[item.index];
      if (item.audio.ok()) {
        TING_RETURN_IF_ERROR(Finish(input, *result++));
      } else {
        TING_RETURN_IF_ERROR(Fail(input, item.audio.status()));
      }
    }
    under_way_.pop_front();
    bar_.Draw(totals_);
    return true;
  }

  void TellLosses() {
    if (pool_.Losses().size() > num_losses_) bar_.Clear();
    tool::TellLosses(services_, pool_, &num_losses_);
  }

  Status Finish(const Input& input, const RecognitionResult& result) {
    if (!result.status.ok()) return Fail(input, result.status.WithContext(input.path));
    if (options_.sink.path.empty()) bar_.Clear();  // both may be the same terminal
    TING_RETURN_IF_ERROR(sink_.Write(input.key, result));
    totals_.audio_s += result.audio_s;
    ++totals_.num_done;
    return {};
  }

  Status Fail(const Input& input, const Status& failure) {
    bar_.Clear();
    *services_.err << "ting: " << failure.message() << '\n' << std::flush;
    ++totals_.num_failed;
    return sink_.WriteFailure(input.key, failure);
  }

  void Measure() { totals_.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  const TranscribeOptions& options_;
  const Services& services_;
  RecognizerPool& pool_;
  ResultSink& sink_;
  ProgressBar bar_;
  std::optional<AudioReader::Item> next_;  // has been read and did not fit
  size_t num_taken_ = 0;                   // inputs that are in batches
  std::deque<Batch> under_way_;            // in the order of the inputs
  size_t num_losses_ = 0;                  // told so far
  RunTotals totals_;
  std::chrono::steady_clock::time_point start_;
};

class TranscribeCommand : public Command {
 public:
  const char* name() const override { return "transcribe"; }
  const char* summary() const override { return "Turn recordings into text"; }
  const char* examples() const override {
    return "  ting transcribe -m models/tiny models/samples\n"
           "  ting transcribe -m model.ting --format kaldi -o hyp.txt wav.scp\n"
           "  ting transcribe -m model.ting --format jsonl -o out.jsonl --resume recordings/\n"
           "  ting transcribe -m model.ting --format srt -o subtitles/ 'talks/*.mp3'\n"
           "  ting transcribe -m model.ting --mode greedy --threads 1 - < a.flac\n";
  }

  void AddOptions(CLI::App& app) override {
    app.add_option("AUDIO", options_.inputs,
                   "files, folders, globs, Kaldi *.scp, JSONL manifests (*.jsonl, *.list), *.tsv, or - for standard "
                   "input")
        ->required();
    AddModelOptions(app, options_.model);
    AddLanesOption(app, options_.model);
    AddModeOption(app, options_.decode.mode);
    AddDecodeOptions(app, options_.decode);
    app.add_option("--nbest", options_.decode.nbest, "hypotheses in a result (jsonl shows them all)")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    app.add_option("--batch", options_.limits.recordings, "recordings recognised together")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    AddBatchSecondsOption(app, options_.limits.seconds);
    AddChannelOption(app, options_.audio.channel);
    app.add_option_function<std::string>(
           "--format", [this](const std::string& name) { options_.sink.format = *ParseResultFormat(name); },
           "text, kaldi (key text), jsonl (scores, times, n-best), srt, vtt, ctm")
        ->check(CLI::IsMember({"text", "kaldi", "jsonl", "srt", "vtt", "ctm"}))
        ->default_str(FormatName(options_.sink.format));
    app.add_option("-o,--output", options_.sink.path,
                   "file, or folder/ for one file a recording; default: standard output");
    app.add_flag("--resume", options_.sink.resume, "append to the output, skipping the recordings that it holds");
    options_.verbose.AddOption(app);
    app.add_flag("-q,--quiet", options_.quiet, "no progress bar, no summary, no notes");
  }

  Status Check() const override {
    TING_RETURN_IF_ERROR(CheckDecodeOptions(options_.decode));
    return CheckSinkOptions(options_.sink);
  }

  Result<int> Run(const Services& services) override {
    TING_ASSIGN_OR_RETURN(const InputSet set, ExpandInputs(options_.inputs));
    if (set.inputs.size() > 1 && MakeResultWriter(options_.sink.format)->one_file_per_result() &&
        !IsFolderOutput(options_.sink)) {
      return InvalidArgument("{} recordings cannot share one {} file; name a folder: -o subtitles/", set.inputs.size(),
                             FormatName(options_.sink.format));
    }
    // An output that is taken up again says what is left to do. One that is replaced must wait for the model.
    std::unique_ptr<ResultSink> sink;
    if (options_.sink.resume) TING_RETURN_IF_ERROR(OpenSink(services, &sink));
    std::vector<Input> inputs = set.inputs;
    if (sink != nullptr) std::erase_if(inputs, [&](const Input& input) { return sink->IsDone(input.key); });
    ModelOptions model = options_.model;
    model.pool.max_batches = inputs.size();
    TING_ASSIGN_OR_RETURN(const std::unique_ptr<RecognizerPool> pool, LoadPool(services, model));
    if (options_.verbose.dispatch()) TING_RETURN_IF_ERROR(TellDispatch(services, pool->Dispatch()));
    if (sink == nullptr) TING_RETURN_IF_ERROR(OpenSink(services, &sink));
    if (!options_.quiet) {
      for (const std::string& note : set.notes) *services.err << "ting: note: " << note << '\n';
    }
    services.catch_interrupt();
    tool::Run run(options_, services, *pool, *sink);
    run.totals().num_skipped = set.inputs.size() - inputs.size();
    TING_RETURN_IF_ERROR(run.Transcribe(inputs));
    return Conclude(services, run.totals());
  }

 private:
  Status OpenSink(const Services& services, std::unique_ptr<ResultSink>* sink) const {
    TING_ASSIGN_OR_RETURN(*sink, ResultSink::Open(options_.sink, services.out));
    return {};
  }

  int Conclude(const Services& services, const RunTotals& totals) const {
    const bool interrupted = totals.num_done + totals.num_failed < totals.num_inputs;
    if (interrupted) *services.err << "ting: interrupted\n";
    if (!options_.quiet) *services.err << SummaryText(totals);
    if (interrupted) return kExitInterrupted;
    return totals.num_failed > 0 ? kExitFailure : kExitOk;
  }

  TranscribeOptions options_;
};

}  // namespace

std::unique_ptr<Command> MakeTranscribeCommand() { return std::make_unique<TranscribeCommand>(); }

}  // namespace ting::tool
