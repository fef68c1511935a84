// tools/ting/tune.cc
// SPDX-License-Identifier: Apache-2.0
//
// `ting tune`: measures how a GPU runs a model's products fastest and keeps that in a file. A command of its own, not
// an option of `ting build`: building needs no GPU and its file serves every machine, while records belong to this one.
#include <fmt/core.h>

#include <CLI/CLI.hpp>

#include "base/status_macros.h"
#include "tools/ting/command.h"
#include "tools/ting/model_options.h"

namespace ting::tool {
namespace {

class TuneCommand : public Command {
 public:
  const char* name() const override { return "tune"; }
  const char* summary() const override { return "Measure how this GPU runs a model fastest, once"; }
  const char* examples() const override {
    return "  ting tune -m model.ting --device cuda --precision f16\n"
           "  ting tune -m model.ting --device cuda:1 --precision f16 --rows 128,1024,2048,8192\n"
           "  ting tune --random-weights aishell --device cuda --precision f16 --tuning-file aishell.json\n";
  }

  void AddOptions(CLI::App& app) override {
    model_.recognizer.device = "cuda";
    has_model_ = AddModelOptions(app, model_)->required(false);
    AddRandomWeightsOption(app, random_weights_)->excludes(has_model_);
    app.add_option(
           "--rows", tune_.rows,
           "rows of a step (about 25 a second of audio) to measure; default: every size that steps are padded to")
        ->delimiter(',')
        ->check(CLI::Range(1, 1 << 20))
        ->expected(1, 1000);
  }

  Status Check() const override {
    if (has_model_->empty() && random_weights_.empty())
      return InvalidArgument("name a model: --model or --random-weights");
    return {};
  }

  Result<int> Run(const Services& services) override {
    tune_.progress = [&](const TunedProduct& p) {
      if (p.config.empty()) return;
      *services.out << fmt::format("{:<40} {:>6} rows {:>8.2f} us, {:>8.2f} without; {}\n", p.product, p.rows, p.us,
                                   p.unrecorded_us, p.config)
                    << std::flush;
    };
    TING_ASSIGN_OR_RETURN(const TuneReport report, services.tune_model(PathOf(model_, random_weights_),
                                                                       WithNotes(services, model_.recognizer), tune_));
    *services.err << fmt::format("{}: {} of {} choices are better measured, in {:.0f} s\n", report.file,
                                 report.num_records, report.num_measured, report.seconds);
    return kExitOk;
  }

 private:
  ModelOptions model_;
  TuneOptions tune_;
  std::string random_weights_;
  CLI::Option* has_model_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> MakeTuneCommand() { return std::make_unique<TuneCommand>(); }

}  // namespace ting::tool
