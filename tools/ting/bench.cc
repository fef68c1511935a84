// tools/ting/bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// `ting bench`: how fast a model runs here. All audio is decoded to memory first; a pass goes from samples to text.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/status_macros.h"
#include "tools/ting/command.h"
#include "tools/ting/model_options.h"
#include "tools/ting/statistics.h"
#include "tools/ting/timed_pass.h"

namespace ting::tool {
namespace {

struct BenchReport {
  double load_ms = 0, audio_s = 0, peak_rss_mb = 0;
  size_t num_utterances = 0;
  int batch = 0, num_threads = 0, num_lanes = 0;
  const char *mode = "", *precision = "";
  std::string device;
  std::vector<double> rtfx;      // a pass
  std::vector<double> batch_ms;  // of all passes
  StageTimes stages;             // of all passes

  double passes() const { return static_cast<double>(rtfx.size()); }
  double ms_per_utterance() const { return audio_s / Median(rtfx) * 1e3 / num_utterances; }
};

std::string ReportText(const BenchReport& r) {
  const auto per_utterance = [&](double ms) { return ms / r.passes() / r.num_utterances; };
  std::string passes;
  for (const double rtfx : r.rtfx) passes += fmt::format(" {:.1f}", rtfx);
  std::string text = fmt::format(
      "{} utterances, {:.1f} s; {} {}, lanes {}, threads {}, batch {}, {}\n"
      "loaded in       {:.0f} ms\n"
      "RTFx            {:.1f} median, {:.1f} to {:.1f}; passes{}\n"
      "per utterance   {:.2f} ms: features {:.2f}, encoder {:.2f}, search {:.2f}, decoder {:.2f}, text {:.2f}\n",
      r.num_utterances, r.audio_s, r.device, r.precision, r.num_lanes,
      r.num_threads == 0 ? "all" : std::to_string(r.num_threads), r.batch, r.mode, r.load_ms, Median(r.rtfx),
      MinOf(r.rtfx), MaxOf(r.rtfx), passes, r.ms_per_utterance(), per_utterance(r.stages.frontend_ms),
      per_utterance(r.stages.encoder_ms), per_utterance(r.stages.search_ms), per_utterance(r.stages.decoder_ms),
      per_utterance(r.stages.text_ms));
  text += fmt::format("latency         p50 {:.2f} ms, p95 {:.2f} ms a batch of {}\n", Quantile(r.batch_ms, 0.5),
                      Quantile(r.batch_ms, 0.95), r.batch);
  return text + fmt::format("peak memory     {:.0f} MB (the audio included)\n", r.peak_rss_mb);
}

std::string ReportJson(const BenchReport& r) {
  const double n = r.passes() * r.num_utterances;
  const nlohmann::ordered_json json = {
      {"rtfx", Median(r.rtfx)},
      {"rtfx_min", MinOf(r.rtfx)},
      {"rtfx_max", MaxOf(r.rtfx)},
      {"rtfx_passes", r.rtfx},
      {"ms_per_utterance", r.ms_per_utterance()},
      {"p50_ms", Quantile(r.batch_ms, 0.5)},
      {"p95_ms", Quantile(r.batch_ms, 0.95)},
      {"stage_ms_per_utterance",
       {{"frontend", r.stages.frontend_ms / n},
        {"encoder", r.stages.encoder_ms / n},
        {"search", r.stages.search_ms / n},
        {"decoder", r.stages.decoder_ms / n},
        {"text", r.stages.text_ms / n}}},
      {"utterances", r.num_utterances},
      {"audio_s", r.audio_s},
      {"batch", r.batch},
      {"lanes", r.num_lanes},
      {"threads", r.num_threads},
      {"mode", r.mode},
      {"precision", r.precision},
      {"device", r.device},
      {"load_ms", r.load_ms},
      {"peak_rss_mb", r.peak_rss_mb},
  };
  return json.dump() + "\n";
}

// Times of nodes of the same graph, op and implementation together, the longest first.
std::string ProfileText(const std::vector<NodeProfile>& nodes) {
  struct Sum {
    int64_t num_nodes = 0, calls = 0;
    double ms = 0;
  };
  std::map<std::tuple<std::string, std::string, std::string>, Sum> by_op;
  double total_ms = 0;
  for (const NodeProfile& node : nodes) {
    Sum& sum = by_op[{node.graph, node.op, node.implementation}];
    ++sum.num_nodes, sum.calls += node.calls, sum.ms += node.total_ms, total_ms += node.total_ms;
  }
  std::vector<std::pair<std::tuple<std::string, std::string, std::string>, Sum>> rows(by_op.begin(), by_op.end());
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.ms > b.second.ms; });
  std::string text = fmt::format("{:<14} {:<20} {:<18} {:>6} {:>9} {:>11} {:>6}\n", "graph", "op", "implementation",
                                 "nodes", "calls", "ms", "share");
  for (const auto& [names, sum] : rows) {
    const auto& [graph, op, implementation] = names;
    text += fmt::format("{:<14} {:<20} {:<18} {:>6} {:>9} {:>11.2f} {:>5.1f}%\n", graph, op, implementation,
                        sum.num_nodes, sum.calls, sum.ms, total_ms > 0 ? 100 * sum.ms / total_ms : 0);
  }
  return text;
}

class BenchCommand : public Command {
 public:
  const char* name() const override { return "bench"; }
  const char* summary() const override { return "Measure how fast a model runs on this machine"; }
  const char* examples() const override {
    return "  ting bench -m models/tiny --clips models/samples\n"
           "  ting bench -m model.ting --clips list.tsv --batch 16 --threads 2 --passes 5 --json\n"
           "  ting bench -m model.ting --clips list.tsv --mode greedy --profile\n"
           "  ting bench --random-weights aishell --stages 1,8,16,64 --device cuda --precision f16\n"
           "  ting bench -m model.ting --clips list.tsv --device cuda --precision f16 --batch 64 --lanes 3\n";
  }

  void AddOptions(CLI::App& app) override {
    CLI::Option* model = AddModelOptions(app, model_)->required(false);
    CLI::Option* clips = app.add_option("--clips", clips_, "what to run: as AUDIO of ting transcribe");
    CLI::Option* random = app.add_option("--random-weights", random_weights_,
                                         "instead of a model: aishell or u2pp with random weights, with --stages");
    random->check(CLI::IsMember({"aishell", "u2pp"}))->excludes(model);
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
    app.add_option("--batch", batch_, "recordings a call")->check(CLI::Range(1, 4096))->capture_default_str();
    app.add_option("--warmup", warmup_, "passes before the clock runs")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    app.add_option("--passes", passes_, "timed passes over all recordings")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    AddChannelOption(app, audio_.channel);
    app.add_flag("--profile", model_.recognizer.profile,
                 "print the time of every kind of node, warm-up included (its clocks cost a little)");
    app.add_flag("--json", json_, "print one JSON line");
  }

  Status Check() const override {
    if (has_model_->empty() && random_weights_.empty())
      return InvalidArgument("name a model: --model or --random-weights");
    if (has_clips_->empty() && has_stages_->empty()) return InvalidArgument("say what to run: --clips or --stages");
    if (!random_weights_.empty() && has_stages_->empty()) {
      return InvalidArgument("random weights recognise nothing; use them with --stages");
    }
    return CheckDecodeOptions(decode_);
  }

  Result<int> Run(const Services& services) override {
    if (!has_stages_->empty()) return RunStages(services);
    const Stopwatch load;
    TING_ASSIGN_OR_RETURN(const std::unique_ptr<RecognizerPool> pool, LoadPool(services, model_));
    BenchReport report{.load_ms = load.ms()};
    audio_.sample_rate_hz = pool->info().sample_rate_hz;
    TING_ASSIGN_OR_RETURN(const Recordings recordings,
                          ReadRecordings(services, clips_, audio_, model_.recognizer.num_threads));
    for (int i = 0; i < warmup_; ++i) RunTimedPass(*pool, recordings.audio, decode_, batch_, Results::kDrop);
    size_t num_failed = recordings.num_failed;
    for (int i = 0; i < passes_; ++i) {
      const TimedPass pass =
          RunTimedPass(*pool, recordings.audio, decode_, batch_, i == 0 ? Results::kKeep : Results::kDrop);
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
    return num_failed > 0 ? kExitFailure : kExitOk;
  }

 private:
  Result<int> RunStages(const Services& services) {
    stages_.beam = decode_.beam;
    const std::string model = random_weights_.empty() ? model_.path : "random:" + random_weights_;
    TING_ASSIGN_OR_RETURN(const auto results, services.benchmark_stages(model, model_.recognizer, stages_));
    if (!json_) {
      *services.out << fmt::format("{}, {} frames, CTC head with the best {}; {} hypotheses of {} tokens\n", model,
                                   stages_.frames, stages_.beam, stages_.beam, stages_.tokens)
                    << fmt::format("{:>5} {:>12} {:>12}\n", "batch", "encoder ms", "decoder ms");
    }
    for (const StageBenchmark& r : results) {
      const nlohmann::ordered_json json = {
          {"batch", r.batch}, {"encoder_ms", r.encoder_ms}, {"decoder_ms", r.decoder_ms}};
      *services.out << (json_ ? json.dump() + "\n"
                              : fmt::format("{:>5} {:>12.3f} {:>12.3f}\n", r.batch, r.encoder_ms, r.decoder_ms));
    }
    return kExitOk;
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
    report.batch = batch_;
    report.num_threads = model_.recognizer.num_threads;
    report.mode = ModeName(decode_.mode);
    report.precision = PrecisionName(pool.info().precision);
    report.num_lanes = pool.num_lanes();
    report.device = model_.recognizer.device;
    report.peak_rss_mb = PeakRssMb();
  }

  ModelOptions model_;
  DecodeOptions decode_;
  ReadAudioOptions audio_;
  std::vector<std::string> clips_;
  StageBenchmarkOptions stages_;
  std::string random_weights_;
  CLI::Option *has_stages_ = nullptr, *has_clips_ = nullptr, *has_model_ = nullptr;
  int batch_ = 1, warmup_ = 1, passes_ = 3;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeBenchCommand() { return std::make_unique<BenchCommand>(); }

}  // namespace ting::tool
