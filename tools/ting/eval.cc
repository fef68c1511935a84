// tools/ting/eval.cc
// SPDX-License-Identifier: Apache-2.0
//
// `ting eval`: how accurate a model is, and how fast its parts are, in the words of the 2022 TensorRT report:
// character error rate by WeNet's compute-wer, mean milliseconds of encoder and decoder a batch. Batches are taken
// in the order of the data, not sorted by length. Without a model it only scores two text files.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/status_macros.h"
#include "tools/ting/command.h"
#include "tools/ting/model_options.h"
#include "tools/ting/scoring.h"
#include "tools/ting/statistics.h"
#include "tools/ting/timed_pass.h"

namespace ting::tool {
namespace {

Status WriteFile(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (file) return {};
  return InvalidArgument("{}: cannot be written", path.string());
}

struct Setting {
  DecodeMode mode;
  int batch;
};

class EvalCommand : public Command {
 public:
  const char* name() const override { return "eval"; }
  const char* summary() const override { return "Score a model on a test set, or a text file against references"; }
  const char* examples() const override {
    return "  ting eval --ref text --hyp hyp.txt --verbose\n"
           "  ting eval -m models/tiny --data models/samples/samples.tsv --modes greedy,rescoring --batch 1,4\n"
           "  ting eval -m model.ting --data wav.scp --text text --modes rescoring --batch 1,4,8,16 -o results\n"
           "  ting eval -m model.ting --data list.tsv --compare golden.tsv\n";
  }

  void AddOptions(CLI::App& app) override {
    app.add_option("--ref", reference_, "score only: \"id text\" lines (or *.tsv) of references");
    app.add_option("--hyp", hypothesis_, "score only: \"id text\" lines of hypotheses");
    verbose_.AddOption(app, "utterances", "print every utterance, aligned; ");
    AddModelOptions(app, model_)->required(false);
    model_.pool.lanes = 1;  // so that encoder and decoder have the device for themselves
    AddLanesOption(app, model_);
    app.add_option("--data", data_, "what to run: as AUDIO of ting transcribe");
    app.add_option("--text", text_, "references; default: the texts in a *.tsv or JSONL after --data");
    app.add_option("--modes", mode_names_, "comma-separated: greedy, prefix_beam, attention, rescoring")
        ->delimiter(',')
        ->check(CLI::IsMember({"greedy", "prefix_beam", "attention", "rescoring"}))
        ->default_str("greedy,prefix_beam,rescoring");
    app.add_option("--batch", batches_, "comma-separated batch sizes")
        ->delimiter(',')
        ->check(CLI::Range(1, 4096))
        ->default_str("1");
    AddDecodeOptions(app, decode_);
    app.add_option("--warmup", warmup_, "passes before the timed one")
        ->check(CLI::Range(0, 100))
        ->capture_default_str();
    AddChannelOption(app, audio_.channel);
    app.add_option("-o,--output", output_, "folder for MODE.bN.hyp and MODE.bN.wer");
    app.add_option("--compare", golden_path_,
                   "clip, greedy, prefix beam, rescoring between tabs: list every utterance whose text differs, with "
                   "the gap between our best two scores");
    app.add_option("--max-different", max_different_, "exit 1 when more than this share of --compare differs")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
  }

  Status Check() const override {
    const bool score_only = !reference_.empty() || !hypothesis_.empty();
    const bool run = !model_.path.empty() || !data_.empty();
    if (score_only == run) return InvalidArgument("give either --ref and --hyp, or -m and --data");
    if (score_only && (reference_.empty() || hypothesis_.empty())) {
      return InvalidArgument("--ref and --hyp belong together; one of them is missing");
    }
    if (run && (model_.path.empty() || data_.empty())) {
      return InvalidArgument("-m and --data belong together; one of them is missing");
    }
    return {};
  }

  Result<int> Run(const Services& services) override {
    if (!reference_.empty()) return ScoreFiles(services);
    if (!golden_path_.empty()) {
      TING_ASSIGN_OR_RETURN(golden_, Golden::Load(golden_path_));
      decode_.nbest = std::min(2, decode_.beam);  // for the gap
    }
    TING_ASSIGN_OR_RETURN(const std::unique_ptr<RecognizerPool> pool, LoadPool(services, model_));
    if (verbose_.dispatch()) TING_RETURN_IF_ERROR(TellDispatch(services, pool->Dispatch()));
    audio_.sample_rate_hz = pool->info().sample_rate_hz;
    TING_ASSIGN_OR_RETURN(recordings_, ReadRecordings(services, data_, audio_, model_.recognizer.num_threads));
    failed_ = recordings_.num_failed > 0;
    TING_RETURN_IF_ERROR(ReadReferences());
    if (!output_.empty()) {
      std::error_code error;
      std::filesystem::create_directories(output_, error);
      if (error) return InvalidArgument("{}: cannot be created: {}", output_, error.message());
    }
    for (const std::string& mode : mode_names_) {
      for (const int batch : batches_) TING_RETURN_IF_ERROR(Evaluate(services, *pool, {*ParseMode(mode), batch}));
    }
    *services.out << "Method                  Batch   CER %       N       C       S       D       I  encoder ms  "
                     "decoder ms      RTFx\n"
                  << table_;
    return failed_ ? kExitFailure : kExitOk;
  }

 private:
  Result<int> ScoreFiles(const Services& services) const {
    TING_ASSIGN_OR_RETURN(const Transcripts references, ReadTranscripts(reference_));
    TING_ASSIGN_OR_RETURN(const Transcripts hypotheses, ReadTranscripts(hypothesis_));
    TING_ASSIGN_OR_RETURN(const Score score, ScoreTranscripts(references, hypotheses));
    *services.out << (verbose_.Has("utterances") ? score.report : score.overall + "\n");
    TellSkipped(services, score);
    return kExitOk;
  }

  static void TellSkipped(const Services& services, const Score& score) {
    if (score.num_skipped == 0) return;
    *services.err << fmt::format("ting: note: {} references have no hypothesis and are not counted\n",
                                 score.num_skipped);
  }

  Status ReadReferences() {
    if (!text_.empty()) {
      TING_ASSIGN_OR_RETURN(references_, ReadTranscripts(text_));
      return {};
    }
    for (const Input& input : recordings_.inputs) {
      if (!input.text) return InvalidArgument("{} has no reference; name a file of texts with --text", input.key);
      references_.emplace_back(input.key, *input.text);
    }
    return {};
  }

  Status Evaluate(const Services& services, RecognizerPool& pool, Setting setting) {
    DecodeOptions options = decode_;
    options.mode = setting.mode;
    for (int i = 0; i < warmup_; ++i) {
      RunTimedPass(pool, recordings_.audio, options, {setting.batch}, Results::kDrop);
    }
    const TimedPass pass = RunTimedPass(pool, recordings_.audio, options, {setting.batch}, Results::kKeep);
    TellLosses(services, pool, &num_losses_);
    std::vector<KeyedResult> results;
    Transcripts hypotheses;
    for (size_t i = 0; i < pass.results.size(); ++i) {
      const RecognitionResult& result = pass.results[i];
      const Input& input = recordings_.inputs[i];
      if (result.status.ok()) {
        results.push_back({input.key, &result});
        hypotheses.emplace_back(input.key, result.nbest.front().text);
      } else {
        *services.err << "ting: " << input.path << ": " << result.status.message() << '\n';
        failed_ = true;
      }
    }
    if (hypotheses.empty()) return InvalidArgument("no recording could be recognised, so there is nothing to score");
    TING_ASSIGN_OR_RETURN(const Score score, ScoreTranscripts(references_, hypotheses));
    Report(services, pool.info(), setting, pass, score);
    if (golden_ && Golden::HasMode(setting.mode)) ReportComparison(services, setting, results);
    return WriteOutputs(setting, hypotheses, score);
  }

  void Report(const Services& services, const ModelInfo& info, Setting setting, const TimedPass& pass,
              const Score& score) {
    const double num_batches = static_cast<double>(pass.batch_ms.size());
    const double encoder_ms = pass.stages.encoder_ms / num_batches, decoder_ms = pass.stages.decoder_ms / num_batches;
    const double rtfx = recordings_.seconds * 1e3 / pass.wall_ms;
    *services.out << fmt::format(
        "Backend: ting {} {}\nMethod: {}\nBatch: {}\nMean(ms):\nencoder --- {:.3f}\ndecoder --- {:.3f}\n"
        "RTFx: {:.1f} ({} recordings, {:.1f} s in {:.2f} s)\n",
        model_.recognizer.device, PrecisionName(info.precision), WenetModeName(setting.mode), setting.batch, encoder_ms,
        decoder_ms, rtfx, recordings_.audio.size(), recordings_.seconds, pass.wall_ms / 1e3);
    *services.out << (verbose_.Has("utterances") ? score.report : score.overall + "\n") << '\n' << std::flush;
    TellSkipped(services, score);
    table_ +=
        fmt::format("{:<22} {:>6} {:>7.2f} {:>7} {:>7} {:>7} {:>7} {:>7} {:>11.3f} {:>11.3f} {:>9.1f}\n",
                    WenetModeName(setting.mode), setting.batch, score.rate_percent, score.num_tokens, score.correct,
                    score.substitutions, score.deletions, score.insertions, encoder_ms, decoder_ms, rtfx);
  }

  void ReportComparison(const Services& services, Setting setting, const std::vector<KeyedResult>& results) {
    const Comparison comparison = Compare(*golden_, setting.mode, results);
    *services.out << comparison.lines
                  << fmt::format("compare {} batch {}: {} of {} differ", WenetModeName(setting.mode), setting.batch,
                                 comparison.num_different, comparison.num_compared);
    if (comparison.num_unknown > 0) *services.out << fmt::format(", {} are not in the golden", comparison.num_unknown);
    *services.out << "\n\n" << std::flush;
    if (comparison.num_different > max_different_ * comparison.num_compared || comparison.num_compared == 0) {
      failed_ = true;
    }
  }

  Status WriteOutputs(Setting setting, const Transcripts& hypotheses, const Score& score) const {
    if (output_.empty()) return {};
    const std::string name = fmt::format("{}.b{}", ModeName(setting.mode), setting.batch);
    std::string lines;
    for (const auto& [key, text] : hypotheses) lines += key + " " + text + "\n";
    TING_RETURN_IF_ERROR(WriteFile(std::filesystem::path(output_) / (name + ".hyp"), lines));
    return WriteFile(std::filesystem::path(output_) / (name + ".wer"), score.report);
  }

  std::string reference_, hypothesis_, text_, output_, golden_path_;
  std::vector<std::string> data_, mode_names_ = {"greedy", "prefix_beam", "rescoring"};
  std::vector<int> batches_ = {1};
  int warmup_ = 1;
  double max_different_ = 0.002;  // 1 in 500
  Verbose verbose_;
  ModelOptions model_;
  DecodeOptions decode_;
  ReadAudioOptions audio_;

  std::optional<Golden> golden_;
  Recordings recordings_;
  Transcripts references_;
  std::string table_;
  size_t num_losses_ = 0;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeEvalCommand() { return std::make_unique<EvalCommand>(); }

}  // namespace ting::tool
