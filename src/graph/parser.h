// src/graph/parser.h
// SPDX-License-Identifier: Apache-2.0
//
// Reads the text form of graphs (printer.h). The text may come from a file: every error is a Status with the
// line number, sizes are bounded, and the result is still to be verified.
#pragma once

#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

Result<Graph> ParseGraph(std::string_view text);
Result<std::vector<Graph>> ParseGraphs(std::string_view text);  // one after the other

}  // namespace ting
