// tools/ting/command_line.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/command_line.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>

#include "tools/ting/command.h"

namespace ting::tool {
namespace {

struct Parser {
  CLI::App app{"Runs trained WeNet speech models: audio in, text out.", "ting"};
  std::vector<std::unique_ptr<Command>> commands;
  std::vector<CLI::App*> subcommands;  // parallel to commands

  Parser() {
    app.set_version_flag("--version", "ting " TING_VERSION);
    app.require_subcommand(1);
    app.footer(
        "\nExample:\n  ting transcribe -m models/tiny models/samples\n\nting COMMAND --help explains a command.");
    commands.push_back(MakeTranscribeCommand());
    commands.push_back(MakeBuildCommand());
    commands.push_back(MakeInspectCommand());
    commands.push_back(MakeBenchCommand());
    commands.push_back(MakeEvalCommand());
    commands.push_back(MakeTuneCommand());
    for (const auto& command : commands) {
      CLI::App* sub = app.add_subcommand(command->name(), command->summary());
      sub->footer(fmt::format("\nExamples:\n{}", command->examples()));
      command->AddOptions(*sub);
      subcommands.push_back(sub);
    }
  }

  void Parse(std::vector<std::string> arguments) {
    std::reverse(arguments.begin(), arguments.end());  // the order that CLI11 takes them in
    app.parse(arguments);
  }

  Command& chosen() {
    const auto at = std::find_if(subcommands.begin(), subcommands.end(), [](CLI::App* sub) { return sub->parsed(); });
    return *commands[at - subcommands.begin()];
  }
};

int RunParsed(Command& command, const Services& services) {
  if (const Status status = command.Check(); !status.ok()) {
    *services.err << "ting: " << status.message() << '\n';
    return kExitUsage;
  }
  const Result<int> code = command.Run(services);
  if (code.ok()) return *code;
  *services.err << "ting: " << code.status().message() << '\n';
  return kExitFailure;
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& arguments, const Services& services) {
  Parser parser;
  try {
    parser.Parse(arguments);
    return RunParsed(parser.chosen(), services);
  } catch (const CLI::Success& help) {  // --help and --version
    parser.app.exit(help, *services.out, *services.err);
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    *services.err << "ting: " << error.what() << "; see `ting --help` or `ting COMMAND --help`\n";
    return kExitUsage;
  } catch (const std::bad_alloc&) {
    *services.err << "ting: out of memory; use a smaller --batch\n";
    return kExitFailure;
  } catch (const std::exception& error) {
    *services.err << "ting: " << error.what() << '\n';
    return kExitFailure;
  }
}

std::string ParseOnly(const std::vector<std::string>& arguments) {
  Parser parser;
  try {
    parser.Parse(arguments);
  } catch (const CLI::Success&) {
    return "";
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return parser.chosen().Check().message();
}

std::vector<std::pair<std::string, std::string>> HelpPages() {
  Parser parser;
  std::vector<std::pair<std::string, std::string>> pages;
  for (CLI::App* sub : parser.subcommands) pages.emplace_back(sub->get_name(), sub->help());
  return pages;
}

}  // namespace ting::tool
