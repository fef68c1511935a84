// tools/ting/command_line.h
// SPDX-License-Identifier: Apache-2.0
//
// From arguments to an exit code. Errors are one line on services.err: "ting: what is wrong and what to do".
#pragma once

#include <string>
#include <vector>

#include "tools/ting/services.h"

namespace ting::tool {

// `arguments` without the program's name. Exit code: 0, 1 (something failed), 2 (usage), 130 (interrupted).
int RunCommandLine(const std::vector<std::string>& arguments, const Services& services);

// Parses and checks only. Empty when `arguments` would run, otherwise the sentence that refuses them.
std::string ParseOnly(const std::vector<std::string>& arguments);

// The help pages of all sub-commands, by name.
std::vector<std::pair<std::string, std::string>> HelpPages();

}  // namespace ting::tool
