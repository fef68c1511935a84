// tools/ting/command.h
// SPDX-License-Identifier: Apache-2.0
//
// A sub-command: one file each, listed in command_line.cc. Parsing, checking and running are apart, so that a test
// can parse every example of a help page without running it, and so that a usage error (exit 2) is found before
// any work is done.
#pragma once

#include <memory>
#include <string>

#include "tools/ting/services.h"

namespace CLI {
class App;
}

namespace ting::tool {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  // 128 + SIGINT, as shells expect

class Command {
 public:
  virtual ~Command() = default;
  virtual const char* name() const = 0;
  virtual const char* summary() const = 0;   // one line for `ting --help`
  virtual const char* examples() const = 0;  // runnable lines, two spaces before each
  virtual void AddOptions(CLI::App& app) = 0;
  // Combinations that the option parser cannot refuse. Not OK: exit 2.
  virtual Status Check() const { return {}; }
  // The exit code, or the status that ended the run (exit 1).
  virtual Result<int> Run(const Services& services) = 0;
};

std::unique_ptr<Command> MakeTranscribeCommand();
std::unique_ptr<Command> MakeBuildCommand();
std::unique_ptr<Command> MakeInspectCommand();
std::unique_ptr<Command> MakeBenchCommand();
std::unique_ptr<Command> MakeEvalCommand();
std::unique_ptr<Command> MakeTuneCommand();

}  // namespace ting::tool
