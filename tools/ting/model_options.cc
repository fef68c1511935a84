// tools/ting/model_options.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/model_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>
#include <set>
#include <thread>

#include "base/status_macros.h"
#include "tools/ting/audio_reader.h"
#include "tools/ting/dispatch_text.h"

namespace ting::tool {
namespace {

struct ModeNames {
  DecodeMode mode;
  const char *name, *wenet_name;
};

constexpr ModeNames kModes[] = {
    {DecodeMode::kGreedy, "greedy", "ctc_greedy_search"},
    {DecodeMode::kPrefixBeam, "prefix_beam", "ctc_prefix_beam_search"},
    {DecodeMode::kAttention, "attention", "attention"},
    {DecodeMode::kRescoring, "rescoring", "attention_rescoring"},
};

const ModeNames& NamesOf(DecodeMode mode) {
  return *std::find_if(std::begin(kModes), std::end(kModes), [&](const ModeNames& m) { return m.mode == mode; });
}

Status WithPath(const Status& status, const std::string& path) {
  return status.message().find(path) != std::string::npos ? status : status.WithContext(path);
}

}  // namespace

std::optional<DecodeMode> ParseMode(std::string_view name) {
  for (const ModeNames& mode : kModes) {
    if (name == mode.name || name == mode.wenet_name) return mode.mode;
  }
  return std::nullopt;
}
const char* ModeName(DecodeMode mode) { return NamesOf(mode).name; }
const char* WenetModeName(DecodeMode mode) { return NamesOf(mode).wenet_name; }

bool IsGpu(const ModelOptions& options) { return options.recognizer.device.starts_with("cuda"); }

CLI::Option* AddModelOptions(CLI::App& app, ModelOptions& options) {
  CLI::Option* model =
      app.add_option("-m,--model", options.path, "engine file (ting build) or WeNet checkpoint directory")->required();
  AddDeviceOptions(app, options);
  return model;
}

void AddDeviceOptions(CLI::App& app, ModelOptions& options) {
  app.add_option("--threads", options.recognizer.num_threads,
                 "threads that compute: on the CPU of all lanes together (0: one a core), on a GPU of each (0: two)")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--device", options.recognizer.device,
                 "cpu; cuda or cuda:N: an NVIDIA GPU; cuda:0,1 or cuda:all: several (transcribe, bench --clips, eval); "
                 "ref: plain loops on the CPU, slow, the oracle")
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--precision", [&options](const std::string& name) { options.recognizer.precision = ParsePrecision(name); },
         "type of the matrices. bf16: the 16-bit type that keeps most (CPU: int16; GPU: f16 where the model fits its "
         "range, otherwise bf16x1); bf16x1: bf16 itself; int16, bf16x3: CPU, nearly f32, fast with AMX, int16 also "
         "with AVX512-VNNI; f16, tf32: GPU; default: what the model file holds")
      ->check(CLI::IsMember({"f32", "tf32", "f16", "bf16", "int16", "bf16x1", "bf16x3"}));
  app.add_flag("--batch-invariant", options.recognizer.batch_invariant,
               "GPU: sum in one order whatever the batch, so that an utterance's bits do not depend on it");
  app.add_option_function<double>(
         "--gpu-memory",
         [&options](double gb) { options.recognizer.gpu_memory_bytes = static_cast<size_t>(gb * (1 << 30)); },
         "GPU: gigabytes that steps may take beside the weights; default: all there is")
      ->check(CLI::PositiveNumber);
  app.add_option("--tuning-file", options.recognizer.tuning_file,
                 "GPU: records of ting tune; default: this machine's for the model, in the user's cache");
  app.add_flag(
      "--no-tuning", [&options](int64_t) { options.recognizer.use_tuning = false; }, "GPU: use no tuning records");
}

void AddLanesOption(CLI::App& app, ModelOptions& options) {
  app.add_option("--lanes", options.pool.lanes,
                 "recognisers of each device, which take batches in turn; 0: eight on a GPU, one a thread on the CPU, "
                 "but 16 at most")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
}

void AddBatchSecondsOption(CLI::App& app, double& seconds) {
  app.add_option("--batch-seconds", seconds,
                 "of audio that a batch holds at most; a longer recording is one of its own")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

CLI::Option* AddRandomWeightsOption(CLI::App& app, std::string& architecture) {
  return app
      .add_option("--random-weights", architecture,
                  "instead of a model: that architecture with random weights, for times")
      ->check(CLI::IsMember({"aishell", "u2pp"}));
}

std::string PathOf(const ModelOptions& options, const std::string& random_weights) {
  return random_weights.empty() ? options.path : "random:" + random_weights;
}

void Verbose::AddOption(CLI::App& app, const std::string& more, const std::string& help) {
  const std::string bare = more.empty() ? "dispatch" : more;
  app.add_flag("--verbose{" + bare + "}", told_,
               help + "dispatch: tell which implementation runs each graph node, and why better ones refused")
      ->check(CLI::IsMember(std::set<std::string>{bare, "dispatch"}));
}

bool Verbose::Has(const std::string& what) const { return std::find(told_.begin(), told_.end(), what) != told_.end(); }

void AddModeOption(CLI::App& app, DecodeMode& mode) {
  app.add_option_function<std::string>(
         "--mode", [&mode](const std::string& name) { mode = *ParseMode(name); }, "how frames become text")
      ->check(CLI::IsMember({"greedy", "prefix_beam", "attention", "rescoring"}))
      ->default_str(ModeName(mode));
}

void AddDecodeOptions(CLI::App& app, DecodeOptions& options) {
  app.add_option("--beam", options.beam, "hypotheses that a search keeps")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--ctc-weight", options.ctc_weight, "CTC's share in rescoring; default 0.5 for U2, 0.3 for U2++");
  app.add_option("--reverse-weight", options.reverse_weight,
                 "the right-to-left decoder's share; default 0.5 where the model has one")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--length-penalty", options.length_penalty, "attention mode: score / length ^ penalty")
      ->capture_default_str();
  app.add_option("--blank-penalty", options.blank_penalty, "subtracted from the blank's logit")->capture_default_str();
  app.add_option("--blank-skip", options.blank_skip,
                 "prefix beam search passes over frames whose blank is more probable than this, as 0.99; default: none")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option_function<int>(
         "--chunk-size", [&options](const int& frames) { options.chunk_frames = std::max(0, frames); },
         "encoder frames a chunk, as in streaming; 0 or, as in WeNet, -1: all")
      ->check(CLI::Range(-1, 1 << 20))
      ->default_str("0");
  app.add_option("--left-chunks", options.num_left_chunks, "chunks that a chunk sees behind it; -1: all")
      ->check(CLI::Range(-1, 1 << 20))
      ->capture_default_str();
}

void AddChannelOption(CLI::App& app, int& channel) {
  app.add_option("--channel", channel, "channel of a multi-channel file, from 0; -1: the mean of all")
      ->check(CLI::Range(-1, 1023))
      ->capture_default_str();
}

Status CheckDecodeOptions(const DecodeOptions& options) {
  if (options.nbest > options.beam) {
    return InvalidArgument("--nbest {} is more than --beam {}; raise --beam", options.nbest, options.beam);
  }
  return {};
}

RecognizerOptions WithNotes(const Services& services, RecognizerOptions options) {
  options.note = [err = services.err](const std::string& note) { *err << "ting: note: " << note << '\n'; };
  return options;
}

Status TellDispatch(const Services& services, const Result<std::vector<NodeDispatch>>& dispatch) {
  TING_RETURN_IF_ERROR(dispatch.status());
  *services.err << DispatchText(*dispatch);
  return {};
}

Result<std::unique_ptr<Recognizer>> LoadModel(const Services& services, const ModelOptions& options) {
  auto recognizer = services.load(options.path, WithNotes(services, options.recognizer));
  return recognizer.ok() ? std::move(recognizer) : WithPath(recognizer.status(), options.path);
}

Result<std::unique_ptr<RecognizerPool>> LoadPool(const Services& services, const ModelOptions& options) {
  auto pool = services.load_pool(options.path, WithNotes(services, options.recognizer), options.pool);
  return pool.ok() ? std::move(pool) : WithPath(pool.status(), options.path);
}

void TellLosses(const Services& services, const RecognizerPool& pool, size_t* num_told) {
  const std::vector<Status> losses = pool.Losses();
  for (; *num_told < losses.size(); ++*num_told) {
    *services.err << "ting: note: a device was lost: " << losses[*num_told].message() << '\n' << std::flush;
  }
}

Result<Audio> ReadInput(const Services& services, const Input& input, const ReadAudioOptions& options) {
  if (input.path != "-") {
    auto audio = services.read_audio(input.path, options);
    if (audio.ok() || audio.status().message().find(input.path) != std::string::npos) return audio;
    return audio.status().WithContext(input.path);
  }
  const std::string bytes(std::istreambuf_iterator<char>(*services.in), {});
  auto audio = services.read_audio_bytes(std::as_bytes(std::span(bytes)), options);
  return audio.ok() ? std::move(audio) : Result<Audio>(audio.status().WithContext("standard input"));
}

Result<Recordings> ReadRecordings(const Services& services, const std::vector<std::string>& arguments,
                                  const ReadAudioOptions& options, int num_threads) {
  TING_ASSIGN_OR_RETURN(InputSet set, ExpandInputs(arguments));
  for (const std::string& note : set.notes) *services.err << "ting: note: " << note << '\n';
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  AudioReader reader(set.inputs, [&](const Input& input) { return ReadInput(services, input, options); },
                     {.ahead = 256, .num_threads = num_threads > 0 ? num_threads : cores});
  Recordings recordings;
  while (auto item = reader.Next()) {
    if (item->audio.ok()) {
      recordings.seconds += item->audio->seconds();
      recordings.inputs.push_back(set.inputs[item->index]);
      recordings.audio.push_back(std::move(*item->audio));
    } else {
      *services.err << "ting: " << item->audio.status().message() << '\n';
      ++recordings.num_failed;
    }
  }
  if (recordings.audio.empty()) return InvalidArgument("none of the recordings can be read");
  return recordings;
}

}  // namespace ting::tool
