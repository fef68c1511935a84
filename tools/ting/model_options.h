// tools/ting/model_options.h
// SPDX-License-Identifier: Apache-2.0
//
// The options that several sub-commands share: which model, how it runs, how it decodes, how audio is read.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ting/inputs.h"
#include "tools/ting/services.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace ting::tool {

// The names that --mode takes.
std::optional<DecodeMode> ParseMode(std::string_view name);
const char* ModeName(DecodeMode mode);
// WeNet's name of the mode, which its reports print: "attention_rescoring".
const char* WenetModeName(DecodeMode mode);

struct ModelOptions {
  std::string path;
  RecognizerOptions recognizer;
  PoolOptions pool;
};

bool IsGpu(const ModelOptions& options);

// Returns the option -m, which is required unless the caller says otherwise. AddDeviceOptions: how and where it runs,
// which AddModelOptions adds, too.
CLI::Option* AddModelOptions(CLI::App& app, ModelOptions& options);
// An architecture with random weights instead of a model, where times are all that is asked for.
CLI::Option* AddRandomWeightsOption(CLI::App& app, std::string& architecture);
// What the library takes as the model's path.
std::string PathOf(const ModelOptions& options, const std::string& random_weights);
void AddDeviceOptions(CLI::App& app, ModelOptions& options);
// --verbose=WHAT: what a command tells beside its results. Every one can tell "dispatch" (TellDispatch); `more` names
// what else this one can, and is then what --verbose alone means.
class Verbose {
 public:
  void AddOption(CLI::App& app, const std::string& more = "", const std::string& help = "");
  bool dispatch() const { return Has("dispatch"); }
  bool Has(const std::string& what) const;

 private:
  std::vector<std::string> told_;
};
// For commands that run a pool; its default is `options.pool.lanes`.
void AddLanesOption(CLI::App& app, ModelOptions& options);
void AddBatchSecondsOption(CLI::App& app, double& seconds);
void AddModeOption(CLI::App& app, DecodeMode& mode);
void AddDecodeOptions(CLI::App& app, DecodeOptions& options);
void AddChannelOption(CLI::App& app, int& channel);

Status CheckDecodeOptions(const DecodeOptions& options);

// `options` whose notes go to services.err, which must outlive what is loaded with them.
RecognizerOptions WithNotes(const Services& services, RecognizerOptions options);

// Which implementation runs each graph node and why the better ones do not, on services.err.
Status TellDispatch(const Services& services, const Result<std::vector<NodeDispatch>>& dispatch);
// Loads the model, with its path in front of what went wrong.
Result<std::unique_ptr<Recognizer>> LoadModel(const Services& services, const ModelOptions& options);
Result<std::unique_ptr<RecognizerPool>> LoadPool(const Services& services, const ModelOptions& options);
// A note for each device that was lost, but for the first `*num_told`; counts them.
void TellLosses(const Services& services, const RecognizerPool& pool, size_t* num_told);

// Reads one recording; "-" is standard input. The message of a failure names the recording once.
Result<Audio> ReadInput(const Services& services, const Input& input, const ReadAudioOptions& options);

// Every recording, decoded to memory: measurements start from samples. Those that cannot be read are told on
// services.err and left out of both lists.
struct Recordings {
  std::vector<Input> inputs;
  std::vector<Audio> audio;  // parallel to inputs
  double seconds = 0;
  size_t num_failed = 0;
};
Result<Recordings> ReadRecordings(const Services& services, const std::vector<std::string>& arguments,
                                  const ReadAudioOptions& options, int num_threads);

}  // namespace ting::tool
