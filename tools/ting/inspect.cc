// tools/ting/inspect.cc
// SPDX-License-Identifier: Apache-2.0
//
// `ting inspect`: what a model is, for people or (--json) for programs, and its optimised graphs.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "tools/ting/command.h"
#include "tools/ting/model_options.h"

namespace ting::tool {
namespace {

const char* YesNo(bool value) { return value ? "yes" : "no"; }

std::string InfoText(const ModelInfo& info) {
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    text += fmt::format("{:<12} {}\n", name, value);
  };
  line("model", fmt::format("{}, {:.1f} M parameters, {}", info.family, info.num_parameters / 1e6,
                            PrecisionName(info.precision)));
  line("source", info.source);
  line("audio", fmt::format("{} Hz, {} mel bins every {} ms, CMVN {}", info.sample_rate_hz, info.num_mel_bins,
                            info.frame_shift_ms, YesNo(info.has_cmvn)));
  line("encoder", fmt::format("{} layers, width {}, {} heads, feed-forward {}, one frame of {} ({} ms)",
                              info.encoder_layers, info.encoder_width, info.attention_heads, info.feed_forward_width,
                              info.subsampling_rate, info.subsampling_rate * info.frame_shift_ms));
  line("decoders",
       fmt::format("{} layers left to right, {} right to left", info.left_decoder_layers, info.right_decoder_layers));
  line("streaming", fmt::format("{} (causal convolutions: {})", YesNo(info.streaming), YesNo(info.causal)));
  line("units", fmt::format("{} ({}), blank {}, sos {}, eos {}", info.vocab_size, info.unit_kind, info.blank_id,
                            info.sos_id, info.eos_id));
  line("shortest", fmt::format("{} feature frames", info.min_feature_frames));
  for (const auto& [name, value] : info.details) line(name.c_str(), value);
  return text;
}

nlohmann::ordered_json InfoJson(const ModelInfo& info) {
  nlohmann::ordered_json json = {
      {"family", info.family},
      {"num_parameters", info.num_parameters},
      {"precision", PrecisionName(info.precision)},
      {"source", info.source},
      {"sample_rate_hz", info.sample_rate_hz},
      {"num_mel_bins", info.num_mel_bins},
      {"frame_shift_ms", info.frame_shift_ms},
      {"has_cmvn", info.has_cmvn},
      {"subsampling_rate", info.subsampling_rate},
      {"min_feature_frames", info.min_feature_frames},
      {"encoder_layers", info.encoder_layers},
      {"encoder_width", info.encoder_width},
      {"attention_heads", info.attention_heads},
      {"feed_forward_width", info.feed_forward_width},
      {"left_decoder_layers", info.left_decoder_layers},
      {"right_decoder_layers", info.right_decoder_layers},
      {"causal", info.causal},
      {"streaming", info.streaming},
      {"vocab_size", info.vocab_size},
      {"unit_kind", info.unit_kind},
      {"blank_id", info.blank_id},
      {"sos_id", info.sos_id},
      {"eos_id", info.eos_id},
  };
  for (const auto& [name, value] : info.details) json["details"][name] = value;
  return json;
}

class InspectCommand : public Command {
 public:
  const char* name() const override { return "inspect"; }
  const char* summary() const override { return "Show what a model is"; }
  const char* examples() const override {
    return "  ting inspect models/tiny\n"
           "  ting inspect model.ting --json\n"
           "  ting inspect model.ting --graph\n"
           "  ting inspect model.ting --verbose=dispatch --device cuda --precision f16\n";
  }

  void AddOptions(CLI::App& app) override {
    app.add_option("MODEL", model_.path, "engine file or WeNet checkpoint directory")->required();
    app.add_flag("--graph", graph_, "print the optimised graphs too");
    app.add_flag("--json", json_, "print one JSON object");
    AddDeviceOptions(app, model_);
    verbose_.AddOption(app);
  }

  Result<int> Run(const Services& services) override {
    TING_ASSIGN_OR_RETURN(const std::unique_ptr<Recognizer> recognizer, LoadModel(services, model_));
    if (verbose_.dispatch()) TING_RETURN_IF_ERROR(TellDispatch(services, recognizer->Dispatch()));
    if (json_) {
      auto json = InfoJson(recognizer->info());
      if (graph_) json["graph"] = recognizer->GraphText();
      *services.out << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    } else {
      *services.out << InfoText(recognizer->info());
      if (graph_) *services.out << '\n' << recognizer->GraphText();
    }
    return kExitOk;
  }

 private:
  ModelOptions model_;
  bool graph_ = false, json_ = false;
  Verbose verbose_;
};

}  // namespace

std::unique_ptr<Command> MakeInspectCommand() { return std::make_unique<InspectCommand>(); }

}  // namespace ting::tool
