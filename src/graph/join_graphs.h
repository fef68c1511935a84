// src/graph/join_graphs.h
// SPDX-License-Identifier: Apache-2.0
//
// Two graphs that run one after the other as one: a step is then sent, planned and recorded once, and on a GPU the
// second one's kernels are launched while the first one's last ones run.
//   inputs    first's, then those of second that `links` does not name
//   outputs   first's, then second's
//   nodes     first's, then second's
// `links` says which output of first (by name) an input of second (by name) is; their types must be equal. Symbols of
// axes mean the same in both. Values of second whose names first has get "NAME.theirs", NAME being second's own.
#pragma once

#include <map>
#include <string>

#include "graph/graph.h"
#include "ting/status.h"

namespace ting {

Result<Graph> JoinGraphs(const std::string& name, const Graph& first, const Graph& second,
                         const std::map<std::string, std::string>& links);

}  // namespace ting
