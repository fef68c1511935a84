// tools/ting/bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// `ting bench`: how fast a model runs here. All audio is decoded to memory first; a pass goes from samples to text.
#include <fmt/core.h>

#include <CLI/CLI.hpp>

#include "base/status_macros.h"
#include "tools/ting/bench_report.h"
#include "tools/ting/clip_lengths.h"
#include "tools/ting/command.h"
#include "tools/ting/dispatch_text.h"
#include "tools/ting/model_options.h"
#include "tools/ting/stage_table.h"
#include "tools/ting/statistics.h"
#include "tools/ting/timed_pass.h"
#include "tools/ting/trace_report.h"

namespace ting::tool {
namespace {

// Enough to see how steps follow one another; more make files that a browser opens slowly.
constexpr int kTracedSteps = 8;
// A step of a size is planned, then recorded, and replayed from the third time on.
constexpr int kStepsBeforeTrace = 3;

class BenchCommand : public Command {
 public:
  const char* name() const override { return "bench"; }
  const char* summary() const override { return "Measure how fast a model runs on this machine"; }
  const char* examples() const override {
    return "  ting bench -m models/tiny --clips models/samples\n"
           "  ting bench -m model.ting --clips list.tsv --batch 16 --threads 2 --passes 5 --json\n"
           "  ting bench -m model.ting --clips list.tsv --mode greedy --profile\n"
           "  ting bench --random-weights aishell --stages 1,8,16,64 --device cuda --precision f16\n"
           "  ting bench -m model.ting --clips list.tsv --device cuda --precision f16 --batch 64 --lanes 8\n"
           "  ting bench -m model.ting --clips list.tsv --lengths test_lengths.tsv --sort --batch 64 --device cuda\n"
           "  ting bench -m model.ting --clips list.tsv --sort --batch 256 --batch-seconds 335 --device cuda\n"
           "  ting bench --random-weights u2pp --stages 1,64 --device cuda --precision f16 --trace trace.json\n";
  }

  void AddOptions(CLI::App& app) override {
    CLI::Option* model = AddModelOptions(app, model_)->required(false);
    CLI::Option* clips = app.add_option("--clips", clips_, "what to run: as AUDIO of ting transcribe");
    app.add_option("--lengths", lengths_path_,
                   "\"key<TAB>samples\" lines: join and cut the clips to one recording of each length")
        ->needs(clips);
    app.add_flag("--sort", sort_, "longest recordings first, so that a batch holds similar lengths")->needs(clips);
    AddRandomWeightsOption(app, random_weights_)->excludes(model);
    CLI::Option* stages =
        app.add_option("--stages", stages_.batches, "instead of clips: time encoder and decoder at these batch sizes");
    stages->delimiter(',')->check(CLI::Range(1, 4096))->expected(1, 64)->excludes(clips);
    app.add_option("--frames", stages_.frames, "--stages: feature frames of an utterance")
        ->check(CLI::Range(7, 100000))
        ->capture_default_str();
    app.add_option("--tokens", stages_.tokens, "--stages: tokens of a hypothesis; --beam says how many there are")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    model_.pool.lanes = 1;  // so that a batch's time is its own
    AddLanesOption(app, model_);
    has_stages_ = stages, has_clips_ = clips, has_model_ = model;
    AddModeOption(app, decode_.mode);
    AddDecodeOptions(app, decode_);
    app.add_option("--batch", limits_.recordings, "recordings a call")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    AddBatchSecondsOption(app, limits_.seconds);
    app.add_option("--warmup", warmup_, "passes before the clock runs")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    app.add_option("--passes", passes_, "timed passes over all recordings")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    AddChannelOption(app, audio_.channel);
    app.add_flag("--profile", model_.recognizer.profile,
                 "print the time of every kind of node, warm-up included (its clocks cost a little)");
    app.add_option(
        "--trace", trace_,
        "GPU: when all is timed, write what it does in a few more steps for ui.perfetto.dev, and print a table");
    verbose_.AddOption(app);
    app.add_flag("--json", json_, "print one JSON line");
  }

  Status Check() const override {
    if (has_model_->empty() && random_weights_.empty())
      return InvalidArgument("name a model: --model or --random-weights");
    if (has_clips_->empty() && has_stages_->empty()) return InvalidArgument("say what to run: --clips or --stages");
    if (!random_weights_.empty() && has_stages_->empty()) {
      return InvalidArgument("random weights recognise nothing; use them with --stages");
    }
    if (!trace_.empty() && !IsGpu(model_)) {
      return InvalidArgument("--trace shows what a GPU does; add --device cuda, or use --profile");
    }
    return CheckDecodeOptions(decode_);
  }

  Result<int> Run(const Services& services) override {
    if (!has_stages_->empty()) return RunStages(services);
    model_.recognizer.count_work = IsGpu(model_);
    const Stopwatch load;
    TING_ASSIGN_OR_RETURN(const std::unique_ptr<RecognizerPool> pool, LoadPool(services, model_));
    BenchReport report{.load_ms = load.ms()};
    if (verbose_.dispatch()) TING_RETURN_IF_ERROR(TellDispatch(services, pool->Dispatch()));
    audio_.sample_rate_hz = pool->info().sample_rate_hz;
    TING_ASSIGN_OR_RETURN(const Recordings recordings, ReadClips(services));
    for (int i = 0; i < warmup_; ++i) RunTimedPass(*pool, recordings.audio, decode_, limits_, Results::kDrop);
    size_t num_failed = recordings.num_failed;
    for (int i = 0; i < passes_; ++i) {
      const TimedPass pass =
          RunTimedPass(*pool, recordings.audio, decode_, limits_, i == 0 ? Results::kKeep : Results::kDrop);
      report.rtfx.push_back(recordings.seconds * 1e3 / pass.wall_ms);
      report.batch_ms.insert(report.batch_ms.end(), pass.batch_ms.begin(), pass.batch_ms.end());
      report.stages += pass.stages;
      num_failed += TellFailures(services, recordings, pass.results);
    }
    size_t num_losses = 0;
    TellLosses(services, *pool, &num_losses);
    Fill(recordings, *pool, report);
    *services.out << (json_ ? ReportJson(report) : ReportText(report));
    if (model_.recognizer.profile) (json_ ? *services.err : *services.out) << '\n' << ProfileText(pool->Profile());
    if (!trace_.empty()) TING_RETURN_IF_ERROR(TraceClips(services, *pool, recordings));
    return num_failed > 0 ? kExitFailure : kExitOk;
  }

 private:
  Result<Recordings> ReadClips(const Services& services) const {
    TING_ASSIGN_OR_RETURN(Recordings recordings,
                          ReadRecordings(services, clips_, audio_, model_.recognizer.num_threads));
    if (!lengths_path_.empty()) {
      TING_ASSIGN_OR_RETURN(const auto lengths, ReadClipLengths(lengths_path_));
      TING_ASSIGN_OR_RETURN(recordings, CutToLengths(recordings, lengths));
    }
    if (sort_) SortByLength(recordings);
    return recordings;
  }

  Result<int> RunStages(const Services& services) {
    stages_.beam = decode_.beam;
    stages_.traced_steps = trace_.empty() ? 0 : kTracedSteps;
    const std::string model = PathOf(model_, random_weights_);
    const RecognizerOptions options = WithNotes(services, model_.recognizer);
    TING_ASSIGN_OR_RETURN(const StageReport report, services.benchmark_stages(model, options, stages_));
    if (verbose_.dispatch()) *services.err << DispatchText(report.dispatch);
    if (!json_) *services.out << StageTitle(model, stages_) << StageTable(report.batches);
    for (const StageBenchmark& r : report.batches) {
      if (json_) *services.out << StageJson(r);
    }
    if (!trace_.empty()) TING_RETURN_IF_ERROR(Tell(services, report.traces));
    return kExitOk;
  }

  // The tables go where the figures do, unless those are for a program.
  Status Tell(const Services& services, const std::vector<StageTrace>& traces) const {
    for (const StageTrace& trace : traces) (json_ ? *services.err : *services.out) << '\n' << TraceTable(trace);
    return WriteTrace(trace_, traces);
  }

  // The first batches, once more, by lanes that know of the trace.
  Status TraceClips(const Services& services, RecognizerPool& pool, const Recordings& recordings) const {
    TING_ASSIGN_OR_RETURN(const std::unique_ptr<Tracer> tracer, services.create_tracer());
    TING_ASSIGN_OR_RETURN(const std::unique_ptr<RecognizerPool> traced, pool.Clone());
    const std::vector<std::span<const Audio>> batches = CutBatches(recordings.audio, limits_);
    const size_t steps = std::min<size_t>(static_cast<size_t>(kTracedSteps) * traced->num_lanes(), batches.size());
    size_t traced_recordings = 0;
    for (size_t i = 0; i < steps; ++i) traced_recordings += batches[i].size();
    const auto audio = std::span(recordings.audio).first(traced_recordings);
    for (int i = 0; i < kStepsBeforeTrace; ++i) RunTimedPass(*traced, audio, decode_, limits_, Results::kDrop);
    TING_RETURN_IF_ERROR(tracer->Start());
    RunTimedPass(*traced, audio, decode_, limits_, Results::kDrop);
    TING_ASSIGN_OR_RETURN(auto events, tracer->Stop());
    return Tell(services, {{ModeName(decode_.mode), limits_.recordings, static_cast<int>(steps), std::move(events)}});
  }

  static size_t TellFailures(const Services& services, const Recordings& recordings,
                             const std::vector<RecognitionResult>& results) {
    size_t num_failed = 0;
    for (size_t i = 0; i < results.size(); ++i) {
      if (results[i].status.ok()) continue;
      *services.err << "ting: " << recordings.inputs[i].path << ": " << results[i].status.message() << '\n';
      ++num_failed;
    }
    return num_failed;
  }

  void Fill(const Recordings& recordings, const RecognizerPool& pool, BenchReport& report) const {
    report.audio_s = recordings.seconds;
    report.num_utterances = recordings.audio.size();
    report.batch = limits_.recordings;
    report.num_threads = pool.num_threads();
    report.mode = ModeName(decode_.mode);
    report.precision = PrecisionName(pool.info().precision);
    report.num_lanes = pool.num_lanes();
    report.num_devices = pool.num_devices();
    report.device = model_.recognizer.device;
    report.peak_rss_mb = PeakRssMb();
  }

  ModelOptions model_;
  DecodeOptions decode_;
  ReadAudioOptions audio_;
  std::vector<std::string> clips_;
  StageBenchmarkOptions stages_;
  std::string random_weights_, lengths_path_;
  CLI::Option *has_stages_ = nullptr, *has_clips_ = nullptr, *has_model_ = nullptr;
  BatchLimits limits_{.recordings = 1};
  int warmup_ = 1, passes_ = 3;
  bool json_ = false, sort_ = false;
  std::string trace_;
  Verbose verbose_;
};

}  // namespace

std::unique_ptr<Command> MakeBenchCommand() { return std::make_unique<BenchCommand>(); }

}  // namespace ting::tool
