// tools/ting/build.cc
// SPDX-License-Identifier: Apache-2.0
//
// `ting build`: a WeNet checkpoint directory becomes one engine file.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>

#include "base/status_macros.h"
#include "tools/ting/command.h"
#include "tools/ting/model_options.h"

namespace ting::tool {
namespace {

class BuildCommand : public Command {
 public:
  const char* name() const override { return "build"; }
  const char* summary() const override { return "Turn a WeNet checkpoint directory into one engine file"; }
  const char* examples() const override {
    return "  ting build models/tiny -o tiny.ting\n"
           "  ting build models/tiny -o tiny.bf16.ting --precision bf16\n";
  }

  void AddOptions(CLI::App& app) override {
    app.add_option("MODEL_DIR", model_dir_, "folder with final.pt, train.yaml, units.txt (and global_cmvn)")
        ->required();
    app.add_option("-o,--output", output_, "engine file to write")->required();
    app.add_option_function<std::string>(
           "--precision", [this](const std::string& name) { precision_ = *ParsePrecision(name); },
           "storage type of the matrices; bf16 becomes int16, which keeps more bits")
        ->check(CLI::IsMember({"f32", "bf16", "int16", "bf16x1", "bf16x3"}))
        ->default_str(PrecisionName(precision_));
  }

  Result<int> Run(const Services& services) override {
    const auto start = std::chrono::steady_clock::now();
    TING_ASSIGN_OR_RETURN(const ModelInfo info, services.build_engine(model_dir_, output_, precision_));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::error_code error;
    const auto bytes = std::filesystem::file_size(output_, error);
    if (error) return Internal("{} was built but cannot be found: {}", output_, error.message());
    *services.err << fmt::format("{}: {:.1f} MB, {}, built in {:.1f} s\n", output_, bytes / 1e6,
                                 PrecisionName(info.precision), seconds);
    for (const auto& [name, value] : info.details) *services.err << fmt::format("{} {}\n", name, value);
    return kExitOk;
  }

 private:
  std::string model_dir_, output_;
  Precision precision_ = Precision::kF32;
};

}  // namespace

std::unique_ptr<Command> MakeBuildCommand() { return std::make_unique<BuildCommand>(); }

}  // namespace ting::tool
